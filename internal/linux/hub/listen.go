package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"muster/internal/linux/netns"
)

// listener is a listener on the gateway whose port is open to the engines while it lives.
type listener struct {
	*net.TCPListener
	hub  *Hub
	once sync.Once
	err  error
}

// Listen listens on a TCP port of the gateway (0: any), which the engines of this session can reach, and no other
// engine. It lives until it is closed or the hub is.
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

// Dial connects from the hub to a TCP port of an engine.
func (h *Hub) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	c, err := netns.DialTCP(ctx, h.ns, addr)
	if err != nil {
		return nil, err // not c: a nil *net.TCPConn in the interface
	}
	return c, nil
}
