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
	// AllowHost lets engines connect to the host's own addresses too. Loopback addresses are never reachable.
	AllowHost bool
	// MaxConns is how many connections are carried at once; more wait. 0: 512, for a connection takes up to six
	// descriptors (two sockets, and two pipes when data is spliced) of the 20,000 that a process often has.
	MaxConns int
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
	if !opts.AllowHost {
		if near, err := nearHost(to.Addr()); err != nil || near {
			return nil, errors.Join(err, fmt.Errorf("%s is an address of the host", to))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	return opts.Dial(ctx, "tcp", to.String())
}

// nearHost asks the host's routes whether a is the host's own, which is more than its list of addresses tells, or leads
// into another session's network by a link that we made.
func nearHost(a netip.Addr) (bool, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return false, fmt.Errorf("look for a route to %s: %w", a, err)
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			return true, nil
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
