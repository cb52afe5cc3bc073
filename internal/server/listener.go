package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"muster/engine"
)

// maxConnections is how many connections the engines of one session may have open; more of them wait. All sessions and the
// owner share this process's descriptors.
const maxConnections = 512

type listenerKey struct{}

// engineListener is the listener of one session's engines. Its end is also that of its connections: they hold the session's
// network, and a process outside of it, which outlives the session, may keep its own open for long.
type engineListener struct {
	net.Listener
	session engine.ID

	mu    sync.Mutex
	conns map[*engineConn]bool // open ones; true: nobody is being answered on it
	ended bool
}

// ForEngines marks and bounds the connections of a listener that a session's engines reach: only their session's token is
// accepted there. Hand it to the Serve of HTTP's server.
func ForEngines(session engine.ID, l net.Listener) net.Listener {
	return &engineListener{Listener: netutil.LimitListener(l, maxConnections), session: session, conns: map[*engineConn]bool{}}
}

// engineConn is a connection of an engineListener.
type engineConn struct {
	net.Conn
	l *engineListener
}

func (c *engineConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

func (l *engineListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &engineConn{c, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[conn] = true
	return conn, nil
}

// Close ends what is idle, and the rest when it is answered, or soon.
func (l *engineListener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return err
	}
	l.ended = true
	for c, idle := range l.conns {
		if idle {
			c.Conn.Close()
		}
	}
	if len(l.conns) > 0 {
		time.AfterFunc(2*lastWrite, l.closeAll)
	}
	return err
}

func (l *engineListener) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Conn.Close()
	}
}

// connState is told by HTTP's server what becomes of each connection.
func connState(c net.Conn, state http.ConnState) {
	conn, ok := c.(*engineConn)
	if !ok {
		return
	}
	l := conn.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateClosed:
	case http.StateNew, http.StateIdle:
		l.conns[conn] = true
		if l.ended {
			conn.Conn.Close()
		}
	default:
		l.conns[conn] = false
	}
}

// SessionOf tells of a request's context whether it came by a listener of ForEngines, and of which session.
func SessionOf(ctx context.Context) (engine.ID, bool) {
	id, ok := ctx.Value(listenerKey{}).(engine.ID)
	return id, ok
}

// listenerContext is what the requests of a listener begin with. It does not end with Close, which is for streams only.
func listenerContext(l net.Listener) context.Context {
	if e, ok := l.(*engineListener); ok {
		return context.WithValue(context.Background(), listenerKey{}, e.session)
	}
	return context.Background()
}
