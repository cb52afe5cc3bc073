package hub

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/engine"
)

const otherRange = "choose another range with --network, such as --network 10.213.0.0/16"

// use is a range that the host knows already.
type use struct {
	prefix netip.Prefix
	what   string // "address 100.100.0.7/24 of eth1"
	ours   bool   // by the link of a linked hub
}

// PickRange chooses the range of addresses for engines. A configured one is taken if it can be used at all (Invalid if
// not) and if the host has no address in it and no route to it (Conflict if it has). Without one it is the first free
// of 100.100.0.0/16 to 100.127.0.0/16, shared address space (RFC 6598) that hardly anybody uses.
func PickRange(configured string) (netip.Prefix, error) {
	uses, err := hostUses()
	if err != nil {
		return netip.Prefix{}, err
	}
	// Hubs without a link meet nobody: only linked ones must stay out of each other's way.
	return pickRange(configured, slices.DeleteFunc(uses, func(u use) bool { return u.ours }))
}

func pickRange(configured string, uses []use) (netip.Prefix, error) {
	if configured != "" {
		p, err := parseRange(configured)
		if err != nil {
			return netip.Prefix{}, err
		}
		if u, taken := overlap(p, uses); taken {
			return netip.Prefix{}, engine.Errorf(engine.Conflict,
				"the network range %s is in use on this host: %s", p, u.what).WithHint(otherRange)
		}
		return p, nil
	}
	for i := byte(100); i < 128; i++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, i}), 16)
		if _, taken := overlap(p, uses); !taken {
			return p, nil
		}
	}
	first := netip.MustParsePrefix("100.100.0.0/16")
	u, _ := overlap(first, uses)
	return netip.Prefix{}, engine.Errorf(engine.Conflict,
		"none of 100.100.0.0/16 to 100.127.0.0/16 is free on this host; %s is in use: %s", first, u.what).WithHint(otherRange)
}

func parseRange(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, engine.Errorf(engine.Invalid, "the network range %q is not of the form 100.100.0.0/16", text).
			WithHint(otherRange)
	}
	if p != p.Masked() {
		return p, engine.Errorf(engine.Invalid, "the network range %s has bits set beyond its /%d", text, p.Bits()).
			WithHint("write %s", p.Masked())
	}
	return p, checkRange(p)
}

// notRoutable are ranges in which Linux routes no engine.
var notRoutable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
}

// notForEngines are the addresses outside notRoutable at which clouds hand credentials to whoever asks from the machine.
var notForEngines = []netip.Prefix{
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's WireServer
	netip.MustParsePrefix("192.0.0.0/24"),       // Oracle's metadata; reserved by RFC 6890
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba's metadata
}

func checkRange(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4():
		return engine.Errorf(engine.Invalid, "the network range %s is not IPv4", p).WithHint(otherRange)
	case p != p.Masked():
		return engine.Errorf(engine.Invalid, "the network range %s has bits set beyond its /%d", p, p.Bits()).
			WithHint("use %s", p.Masked())
	case p.Bits() > 24:
		return engine.Errorf(engine.Invalid, "the network range %s is too small: /24 is the smallest", p).WithHint(otherRange)
	case p.Bits() < 8:
		return engine.Errorf(engine.Invalid, "the network range %s is too large: /8 is the largest", p).WithHint(otherRange)
	}
	for _, never := range notRoutable {
		if never.Overlaps(p) {
			return engine.Errorf(engine.Invalid, "the network range %s lies in %s, which cannot be routed", p, never).
				WithHint(otherRange)
		}
	}
	return nil
}

func overlap(p netip.Prefix, uses []use) (use, bool) {
	for _, u := range uses {
		if u.prefix.Overlaps(p) {
			return u, true
		}
	}
	return use{}, false
}

// whole asks for a list again that somebody changed while it was told.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// hostUses lists the addresses and routes of the calling thread's namespace. Default routes do not count, and neither do
// the halves and quarters of everything with which VPNs replace them.
func hostUses() ([]use, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	name := map[int]string{}
	for _, l := range links {
		name[l.Attrs().Index] = l.Attrs().Name
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var uses []use
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.IPNet.String()); err == nil {
			via := name[a.LinkIndex]
			uses = append(uses, use{p.Masked(), fmt.Sprintf("address %s of %s", p, via), isHostLink(via)})
		}
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		p, err := netip.ParsePrefix(r.Dst.String())
		if err != nil || p.Bits() <= 2 {
			continue
		}
		what := fmt.Sprintf("route to %s", p)
		via := name[r.LinkIndex]
		if via != "" {
			what += " by " + via
		}
		uses = append(uses, use{p, what, isHostLink(via)})
	}
	return uses, nil
}
