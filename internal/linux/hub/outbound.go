package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

// ServeOutbound carries TCP connections that engines open to the outside, until the hub is closed: the hub's rules
// redirect them to a listener here, which dials the original destination from the host's own network. The host's
// own addresses are among the outside, its loopback is not. A destination that refuses ends in a reset: the engine's connection
// is accepted before the outside is asked. It may be called once.
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
	err := h.carry(opts.MaxConns, h.redirect, func(ctx context.Context, in *net.TCPConn) (net.Conn, error) {
		return h.dialOutside(ctx, in, opts)
	})
	if err != nil {
		return fmt.Errorf("serve outbound connections: %w", err)
	}
	return nil
}

func (h *Hub) dialOutside(ctx context.Context, in *net.TCPConn, opts OutboundOptions) (net.Conn, error) {
	to, err := originalDestination(in)
	if err != nil {
		return nil, err
	}
	if h.prefix.Contains(to.Addr()) {
		return nil, fmt.Errorf("%s is no address of the outside", to) // connected to the redirecting port itself
	}
	if to.Addr().IsLoopback() { // the rules let no such packet through; here it would be the host's own
		return nil, fmt.Errorf("%s is the host's loopback", to)
	}
	if other, err := ofOtherSession(to.Addr()); err != nil || other {
		return nil, errors.Join(err, fmt.Errorf("%s is of another session", to))
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	return opts.Dial(ctx, "tcp", to.String())
}

// ofOtherSession asks the host whether a leads into another session's network by a link that we made, or is the host's own
// address on such a link.
func ofOtherSession(a netip.Addr) (bool, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return false, fmt.Errorf("look for a route to %s: %w", a, err)
	}
	for _, r := range routes {
		if r.Type == unix.RTN_LOCAL {
			return onHostLink(a)
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return false, fmt.Errorf("look at the link to %s: %w", a, err)
		}
		if isHostLink(link.Attrs().Name) {
			return true, nil
		}
	}
	return false, nil
}

// onHostLink reports whether a is the host's address on a link that we made.
func onHostLink(a netip.Addr) (bool, error) {
	links, err := net.Interfaces()
	if err != nil {
		return false, fmt.Errorf("list the host's links: %w", err)
	}
	for _, l := range links {
		if !isHostLink(l.Name) {
			continue
		}
		addrs, err := l.Addrs()
		if err != nil {
			continue // its session has just ended
		}
		for _, own := range addrs {
			if n, ok := own.(*net.IPNet); ok && n.IP.Equal(a.AsSlice()) {
				return true, nil
			}
		}
	}
	return false, nil
}
