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

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OutboundOptions say how engines reach the outside. The zero value is right for a host.
type OutboundOptions struct {
	// Dial connects to the outside from this process's own network; nil: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout is how long a connection may take to be made; 0: 15 s.
	Timeout time.Duration
	// MaxConns is how many connections are carried at once; more wait. 0: 512, for a connection takes up to six
	// descriptors (two sockets, and two pipes when data is spliced) of the 20,000 that a process often has.
	MaxConns int
}

// outbound carries the TCP connections of a hub's engines to the outside.
type outbound struct {
	hub   *Hub
	opts  OutboundOptions
	l     *listener
	slots chan struct{}
	stop  context.CancelFunc
	conns conns
	wg    sync.WaitGroup
}

// ServeOutbound carries TCP connections that engines open to the outside, until the hub is closed: the hub's rules
// redirect them to a listener here, which dials the original destination from the host's own network. A destination that
// refuses, or that is the host itself, ends in a reset. It may be called once.
func (h *Hub) ServeOutbound(opts OutboundOptions) error {
	if opts.Dial == nil {
		opts.Dial = new(net.Dialer).DialContext
	}
	if opts.Timeout == 0 {
		opts.Timeout = 15 * time.Second
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = 512
	}
	l, err := h.Listen(0)
	if err != nil {
		return fmt.Errorf("serve outbound connections: %w", err)
	}
	if err := h.redirect(l.(*listener).port()); err != nil {
		l.Close()
		return fmt.Errorf("serve outbound connections: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	o := &outbound{hub: h, opts: opts, l: l.(*listener), stop: stop, slots: make(chan struct{}, opts.MaxConns)}
	o.wg.Go(func() { o.accept(ctx) })
	h.mu.Lock()
	h.services = append(h.services, o.close)
	h.mu.Unlock()
	return nil
}

// close ends all connections and waits for their goroutines. The redirection stays: if the hub lives on in other hands,
// connections to the outside are refused until somebody there serves them.
func (o *outbound) close() error {
	err := o.l.end()
	o.stop()
	o.conns.close()
	o.wg.Wait()
	return err
}

func (o *outbound) accept(ctx context.Context) {
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
			o.carry(ctx, c.(*net.TCPConn))
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

// carry connects one connection of an engine with its destination and copies until both directions have ended.
func (o *outbound) carry(ctx context.Context, in *net.TCPConn) {
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

func (o *outbound) dial(ctx context.Context, in *net.TCPConn) (net.Conn, error) {
	to, err := originalDestination(in)
	if err != nil {
		return nil, err
	}
	if o.hub.prefix.Contains(to.Addr()) {
		return nil, fmt.Errorf("%s is no address of the outside", to) // connected to the redirecting port itself
	}
	if own, err := ownAddress(to.Addr()); err != nil || own {
		return nil, errors.Join(err, fmt.Errorf("%s is an address of the host", to))
	}
	ctx, cancel := context.WithTimeout(ctx, o.opts.Timeout)
	defer cancel()
	return o.opts.Dial(ctx, "tcp", to.String())
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

// ownAddress asks the host's routes whether a is the host's own, which is more than its list of addresses tells.
func ownAddress(a netip.Addr) (bool, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return false, fmt.Errorf("look for a route to %s: %w", a, err)
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			return true, nil
		}
	}
	return false, nil
}
