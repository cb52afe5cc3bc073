package fake

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"muster/engine"
)

// network joins the engines of one place, and nobody else.
type network struct {
	mu        sync.Mutex
	closed    bool
	listeners map[netip.AddrPort]*listener
	changed   chan struct{} // closed when a listener comes
}

func newNetwork() *network {
	return &network{listeners: map[netip.AddrPort]*listener{}, changed: make(chan struct{})}
}

// listener implements net.Listener.
type listener struct {
	network *network
	at      netip.AddrPort
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (n *network) listen(a netip.Addr, port int) (*listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, engine.Errorf(engine.Conflict, "the session has ended")
	}
	for at := uint16(port); port == 0 || at == uint16(port); at++ {
		if port == 0 && at < 32768 {
			at = 32768
		}
		key := netip.AddrPortFrom(a, at)
		if n.listeners[key] != nil {
			if port == 0 {
				continue
			}
			break
		}
		l := &listener{network: n, at: key, conns: make(chan net.Conn), closed: make(chan struct{})}
		n.listeners[key] = l
		close(n.changed)
		n.changed = make(chan struct{})
		return l, nil
	}
	return nil, engine.Errorf(engine.Conflict, "listen on %s: %w", netip.AddrPortFrom(a, uint16(port)), syscall.EADDRINUSE)
}

// dial connects. With wait it waits for a listener until ctx ends.
func (n *network) dial(ctx context.Context, to netip.AddrPort, wait bool) (net.Conn, error) {
	for {
		n.mu.Lock()
		l, changed := n.listeners[to], n.changed
		n.mu.Unlock()
		if l == nil {
			if !wait {
				return nil, syscall.ECONNREFUSED
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, syscall.ECONNREFUSED
			}
		}
		ours, theirs := net.Pipe()
		select {
		case l.conns <- theirs:
			return ours, nil
		case <-l.closed:
			if wait {
				continue
			}
			return nil, syscall.ECONNRESET
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.listeners)
}

func (n *network) close() {
	n.mu.Lock()
	n.closed = true
	all := make([]*listener, 0, len(n.listeners))
	for _, l := range n.listeners {
		all = append(all, l)
	}
	n.mu.Unlock()
	for _, l := range all {
		l.Close()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, l.at)
		l.network.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// Dial connects to an address in the place of a session, as one of its engines would: for tests of what is served there.
func (d *Driver) Dial(ctx context.Context, session engine.ID, to netip.AddrPort) (net.Conn, error) {
	p := d.opts.World.place(session)
	if p == nil {
		return nil, engine.Errorf(engine.NotFound, "session %s has no place", session)
	}
	return p.network.dial(ctx, to, false)
}
