package hub

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"muster/engine"
	"muster/internal/linux/netns"
)

func TestPoolGoesRound(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.1.2.0/24"))
	all, err := p.reserve(253)
	must(t, err)
	if all[0].String() != "10.1.2.2" || all[252].String() != "10.1.2.254" {
		t.Fatalf("addresses %s to %s", all[0], all[252])
	}
	for i := 1; i < len(all); i++ {
		if all[i] != all[i-1].Next() {
			t.Fatalf("%s comes after %s", all[i], all[i-1])
		}
	}
	_, err = p.reserve(1)
	if engine.KindOf(err) != engine.NoCapacity || !strings.Contains(err.Error(), "10.1.2.0/24 has no 1 free") ||
		!strings.Contains(err.Error(), "253 of 253") {
		t.Errorf("exhausted: %v", err)
	}
	p.release(all[100:110])
	if _, err := p.reserve(11); engine.KindOf(err) != engine.NoCapacity {
		t.Errorf("eleven of ten: %v", err)
	}
	got, err := p.reserve(10)
	must(t, err)
	if got[0] != all[100] || got[9] != all[109] {
		t.Errorf("again: %v", got)
	}
	if _, err := p.reserve(-1); engine.KindOf(err) != engine.Invalid {
		t.Errorf("reserve(-1): %v", err)
	}
}

// Addresses rest: one that was released comes again only when all others have had their turn.
func TestPoolRests(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.1.2.0/24"))
	last := map[netip.Addr]int{}
	for i := range 2000 {
		a, err := p.reserve(1)
		must(t, err)
		if before, ok := last[a[0]]; ok && i-before < 253 {
			t.Fatalf("%s after %d others", a[0], i-before)
		}
		last[a[0]] = i
		p.release(a)
	}
}

// Whatever is reserved and released, in any order: no address is given twice, and all of them can be given.
func TestPoolNeverTwice(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.1.2.0/24"))
	rnd := rand.New(rand.NewPCG(1, 2))
	var held []netip.Addr
	for range 5000 {
		if n := rnd.IntN(20); rnd.IntN(2) == 0 && len(held)+n <= p.size() {
			got, err := p.reserve(n)
			must(t, err)
			held = append(held, got...)
		} else {
			rnd.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
			n = min(n, len(held))
			p.release(held[:n])
			held = held[n:]
		}
		seen := map[netip.Addr]bool{}
		for _, a := range held {
			if seen[a] || !p.prefix.Contains(a) {
				t.Fatalf("%s is given twice or is not in the range", a)
			}
			seen[a] = true
		}
	}
}

func TestPickRange(t *testing.T) {
	uses := func(texts ...string) []use {
		var u []use
		for _, s := range texts {
			u = append(u, use{prefix: netip.MustParsePrefix(s), what: "route to " + s + " by eth1"})
		}
		return u
	}
	var all []string
	for i := 100; i < 128; i++ {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i), 9, 9}), 32).String())
	}
	for _, c := range []struct {
		configured string
		uses       []use
		want       string
		kind       engine.Kind
		message    string
	}{
		{"", nil, "100.100.0.0/16", "", ""},
		{"", uses("10.0.0.0/8"), "100.100.0.0/16", "", ""},
		{"", uses("100.100.100.100/32", "100.101.0.0/20"), "100.102.0.0/16", "", ""},
		{"", uses("100.64.0.0/10"), "", engine.Conflict, "route to 100.64.0.0/10 by eth1"},
		{"", uses(all...), "", engine.Conflict, "none of 100.100.0.0/16 to 100.127.0.0/16 is free"},
		{"10.9.0.0/16", uses("10.8.0.0/16"), "10.9.0.0/16", "", ""},
		{"10.9.0.0/16", uses("10.9.7.0/24"), "", engine.Conflict, "10.9.0.0/16 is in use on this host: route to 10.9.7.0/24 by eth1"},
		{"10.9.0.0/16", uses("10.0.0.0/8"), "", engine.Conflict, "route to 10.0.0.0/8"},
		{"10.9.0.0/24", nil, "10.9.0.0/24", "", ""},
		{"10.0.0.0/8", nil, "10.0.0.0/8", "", ""},
		{"10.9.0.0/25", nil, "", engine.Invalid, "too small"},
		{"10.0.0.0/7", nil, "", engine.Invalid, "too large"},
		{"10.9.0.1/16", nil, "", engine.Invalid, "bits set beyond its /16"},
		{"fd00::/64", nil, "", engine.Invalid, "not IPv4"},
		{"::ffff:10.9.0.0/112", nil, "", engine.Invalid, "not IPv4"},
		{"127.0.0.0/8", nil, "", engine.Invalid, "cannot be routed"},
		{"169.254.0.0/16", nil, "", engine.Invalid, "cannot be routed"},
		{"240.0.0.0/8", nil, "", engine.Invalid, "cannot be routed"},
		{"ten", nil, "", engine.Invalid, `"ten" is not of the form`},
		{"10.9.0.0", nil, "", engine.Invalid, "not of the form"},
	} {
		got, err := pickRange(c.configured, c.uses)
		if c.kind == "" {
			if err != nil || got.String() != c.want {
				t.Errorf("%q with %v: %v, %v; want %s", c.configured, c.uses, got, err, c.want)
			}
			continue
		}
		if err == nil || engine.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%q with %v: %v; want %s, %q", c.configured, c.uses, err, c.kind, c.message)
		} else if engine.HintOf(err) == "" {
			t.Errorf("%q: no hint", c.configured)
		}
	}
}

// On a real network: addresses and routes of the host are found, the default route is none.
func TestPickRangeOfHost(t *testing.T) {
	requireRoot(t)
	ns, err := netns.New()
	must(t, err)
	defer ns.Close()
	must(t, netns.Do(ns, netns.LoHere))
	must(t, netns.Do(ns, func() error {
		lan := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan0", Flags: net.FlagUp}}
		if err := netlink.LinkAdd(lan); err != nil {
			return err
		}
		if err := netlink.AddrAdd(lan, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("100.100.3.4/24"))}); err != nil {
			return err
		}
		for _, r := range []netlink.Route{
			{Dst: ipNet(netip.MustParsePrefix("100.101.0.0/17"))},
			{Dst: ipNet(netip.MustParsePrefix("100.102.7.7/32")), Table: 52},
			{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/1"))},
			{Dst: ipNet(netip.MustParsePrefix("128.0.0.0/1"))},
			{Gw: net.IPv4(100, 100, 3, 1)},
		} {
			r.LinkIndex = lan.Index
			if err := netlink.RouteAdd(&r); err != nil {
				return err
			}
		}
		p, err := PickRange("")
		if err != nil || p.String() != "100.103.0.0/16" {
			t.Errorf("PickRange = %s, %v", p, err)
		}
		for configured, message := range map[string]string{
			"100.100.0.0/16": "address 100.100.3.4/24 of lan0",
			"100.101.0.0/16": "route to 100.101.0.0/17 by lan0",
			"100.102.0.0/16": "route to 100.102.7.7/32 by lan0",
		} {
			_, err := PickRange(configured)
			if engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), message) {
				t.Errorf("PickRange(%s): %v; want %q", configured, err, message)
			}
		}
		return nil
	}))
}

func TestNewRefusesRanges(t *testing.T) {
	for _, text := range []string{"10.9.0.0/25", "10.9.0.1/16", "fd00::/64"} {
		if h, err := New(netip.MustParsePrefix(text)); h != nil || engine.KindOf(err) != engine.Invalid {
			t.Errorf("New(%s) = %v, %v", text, h, err)
		}
		if h, err := Open(os.Stdin, netip.MustParsePrefix(text)); h != nil || engine.KindOf(err) != engine.Invalid {
			t.Errorf("Open(%s) = %v, %v", text, h, err)
		}
	}
}
