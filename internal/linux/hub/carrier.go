package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// carrier carries the TCP connections that the hub's rules redirect to its listener to where dial connects.
type carrier struct {
	l     *listener
	dial  func(ctx context.Context, in *net.TCPConn) (net.Conn, error)
	slots chan struct{}
	stop  context.CancelFunc
	conns conns
	wg    sync.WaitGroup
}

// carry serves connections until the hub is closed, at most a number at once, from a new port of the gateway to which
// redirect has to lead them.
func (h *Hub) carry(most int, redirect func(port uint16) error, dial func(context.Context, *net.TCPConn) (net.Conn, error)) error {
	l, err := h.Listen(0)
	if err != nil {
		return err
	}
	if err := redirect(l.(*listener).port()); err != nil {
		l.Close()
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	o := &carrier{l: l.(*listener), dial: dial, stop: stop, slots: make(chan struct{}, most)}
	o.wg.Go(func() { o.accept(ctx) })
	h.mu.Lock()
	h.services = append(h.services, o.close)
	h.mu.Unlock()
	return nil
}

// close ends all connections and waits for their goroutines. The redirection stays: if the hub lives on in other hands,
// such connections are refused until somebody there serves them.
func (o *carrier) close() error {
	err := o.l.end()
	o.stop()
	o.conns.close()
	o.wg.Wait()
	return err
}

func (o *carrier) accept(ctx context.Context) {
	for {
		select {
		case o.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := o.l.Accept()
		if err != nil {
			<-o.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: wait for one of our own, but not for ever.
			pause(ctx, 50*time.Millisecond)
			continue
		}
		o.wg.Go(func() {
			defer func() { <-o.slots }()
			o.connect(ctx, c.(*net.TCPConn))
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connect joins one connection of an engine with where it leads and copies until both directions have ended.
func (o *carrier) connect(ctx context.Context, in *net.TCPConn) {
	if !o.conns.add(in) {
		return
	}
	defer o.conns.remove(in)
	out, err := o.dial(ctx, in)
	if err != nil {
		in.SetLinger(0) // a reset: the engine must not take it for a normal end
		return
	}
	if !o.conns.add(out) {
		return
	}
	defer o.conns.remove(out)
	watch(in)
	var wg sync.WaitGroup
	wg.Go(func() { transfer(out, in) })
	transfer(in, out)
	wg.Wait()
}

// transfer copies one direction, and passes its end on: a half close after end of file, an end of both after an error.
func transfer(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil {
		for _, c := range []net.Conn{to, from} {
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			c.Close()
		}
	}
}

// watch makes the kernel notice within half a minute that an engine is gone together with its namespace: nobody answers
// then, neither data nor probes.
func watch(c *net.TCPConn) {
	c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000) })
	}
}

// originalDestination is where the engine wanted to connect before the redirection.
func originalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var optErr error
	err = raw.Control(func(fd uintptr) {
		// The option's value is a sockaddr_in: family, port, address, in the layout of an IPv6 multicast request's start.
		m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST)
		if err != nil {
			optErr = fmt.Errorf("ask for the original destination: %w", err)
			return
		}
		b := m.Multiaddr
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
	})
	return to, errors.Join(err, optErr)
}
