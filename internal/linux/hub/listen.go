package hub

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"muster/internal/linux/netns"
	"muster/internal/linux/peer"
)

// listener is a listener on the gateway whose port is open to the engines while it lives.
type listener struct {
	*net.TCPListener
	hub  *Hub
	once sync.Once
	err  error
}

// Listen listens on a TCP port of the gateway (0: any), which the engines of this session can reach, and no other
// engine; of a linked hub the processes of one user on the host (Admit) can, and no other user. It lives until it is
// closed or the hub is.
func (h *Hub) Listen(port int) (net.Listener, error) {
	if port < 0 || port > 65535 {
		return nil, fmt.Errorf("listen on the gateway: there is no port %d", port)
	}
	tcp, err := netns.ListenTCP(h.ns, netip.AddrPortFrom(h.gateway, uint16(port)))
	if err != nil {
		return nil, fmt.Errorf("listen on the gateway: %w", err)
	}
	l := &listener{TCPListener: tcp, hub: h}
	if err := h.openPort(l.port(), true); err != nil {
		tcp.Close()
		return nil, fmt.Errorf("open port %d of the gateway: %w", l.port(), err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		tcp.Close()
		return nil, fmt.Errorf("listen on the gateway: %w", net.ErrClosed)
	}
	h.listeners[l] = true
	return l, nil
}

// Accept passes over who may not come.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if l.hub.welcome(c) {
			return c, nil
		}
		c.Close()
	}
}

// Admit says whose programs on the host reach the gateway of a linked hub: of this process's user, if nobody is named.
func (h *Hub) Admit(uid int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.user = uid
}

// welcome reports whether a connection comes from an engine, or over the host's link from a program of the admitted user:
// the link is a route, and routes are every user's.
func (h *Hub) welcome(c *net.TCPConn) bool {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	if from.Addr() != h.own {
		return true
	}
	uid, err := peer.TCPUser(c.LocalAddr().(*net.TCPAddr).AddrPort(), from)
	h.mu.Lock()
	defer h.mu.Unlock()
	return err == nil && (uid == h.user || uid == 0)
}

func (l *listener) port() uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }

// Close closes the port and ends the listener. Connections go on.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.hub.mu.Lock()
		delete(l.hub.listeners, l)
		l.hub.mu.Unlock()
		// The port first: once the socket is closed somebody else may listen on it.
		if err := l.hub.openPort(l.port(), false); err != nil && !l.hub.closed() {
			l.err = fmt.Errorf("close port %d of the gateway: %w", l.port(), err)
		}
		l.err = errors.Join(l.err, l.TCPListener.Close())
	})
	return l.err
}

// closed reports whether Close has begun: the rules do not matter any more.
func (h *Hub) closed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listeners == nil
}

// end is Close when the hub's rules do not matter any more.
func (l *listener) end() error {
	l.once.Do(func() { l.err = l.TCPListener.Close() })
	return l.err
}
