package hub

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/linux/netns"
)

// Every engine has all ports: twenty listen on the same one, and each is reached at its own address by another engine,
// from the hub and by itself.
func TestEveryPortFree(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	engines := attach(t, h, 20)
	for i, e := range engines {
		e.greet(6000, fmt.Sprint("engine ", i))
		e.greet(80, fmt.Sprint("low ", i))
	}
	for i, e := range engines {
		text := fmt.Sprint("engine ", i)
		engines[(i+1)%len(engines)].hears(e.addr, 6000, text)
		engines[(i+1)%len(engines)].hears(e.addr, 80, fmt.Sprint("low ", i))
		e.hears(e.addr, 6000, text)
		e.hears(netip.MustParseAddr("127.0.0.1"), 6000, text)
		c, err := netns.DialTCP(t.Context(), h.ns, netip.AddrPortFrom(e.addr, 6000))
		must(t, err)
		if from := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); from != h.Gateway() {
			t.Errorf("the hub dialled from %s, want the gateway %s", from, h.Gateway())
		}
		c.Close()
	}
}

// A namespace that somebody else has made becomes an engine's network like one that the hub made.
func TestAttachTo(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	other := attach(t, h, 1)[0]
	addrs, err := h.Reserve(1)
	must(t, err)
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	must(t, h.AttachTo(ns, addrs[0]))
	if err := h.AttachTo(ns, addrs[0]); engine.KindOf(err) != engine.Conflict {
		t.Errorf("a second time: %v", err)
	}
	e := place{t, addrs[0], ns}
	e.greet(6000, "here")
	other.hears(e.addr, 6000, "here")
	e.hears(e.addr, 6000, "here")
}

// What an engine finds: lo, eth0 with its address, the default route; and nothing that would need ARP.
func TestWhatAnEngineSees(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	e := attach(t, h, 1)[0]
	if e.addr != netip.MustParseAddr("100.100.0.2") || h.Gateway() != netip.MustParseAddr("100.100.0.1") {
		t.Fatalf("first address %s, gateway %s", e.addr, h.Gateway())
	}
	must(t, netns.Do(e.ns, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := eth0.Addrs()
		if err != nil {
			return err
		}
		if eth0.Flags&net.FlagUp == 0 || len(addrs) != 1 || addrs[0].String() != "100.100.0.2/32" {
			t.Errorf("eth0 has %v, %v", eth0.Flags, addrs)
		}
		routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 7))
		if err != nil {
			return err
		}
		if r := routes[0]; r.Gw.String() != "100.100.0.1" || r.Src.String() != "100.100.0.2" {
			t.Errorf("route to the outside: %v", r)
		}
		neighs, err := netlink.NeighList(eth0.Index, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		if len(neighs) != 1 || neighs[0].State != netlink.NUD_PERMANENT {
			t.Errorf("neighbours: %v", neighs)
		}
		return nil
	}))
}

// Sessions do not see each other, whether they use one range or two.
func TestTwoSessionsApart(t *testing.T) {
	for _, other := range []string{"100.100.0.0/16", "100.101.0.0/16"} {
		a, b := newTestHub(t, "100.100.0.0/16"), newTestHub(t, other)
		ea, eb := attach(t, a, 3), attach(t, b, 2)
		for i, e := range ea {
			e.greet(6000, fmt.Sprint("a", i))
		}
		for i, e := range eb {
			e.greet(6000, fmt.Sprint("b", i))
		}
		ea[0].hears(ea[1].addr, 6000, "a1")
		eb[0].hears(eb[1].addr, 6000, "b1")
		// Not known in b's network: the third address of a if the ranges are one, all of them if not.
		eb[0].fails(ea[2].addr, 6000, unix.EHOSTUNREACH, unix.ENETUNREACH)
		if other != "100.100.0.0/16" {
			ea[0].fails(eb[1].addr, 6000, unix.ENETUNREACH)
			eb[0].fails(a.Gateway(), 6000, unix.ENETUNREACH)
		}
	}
}

func TestAttachRefuses(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/24")
	e := attach(t, h, 1)[0]
	for addr, kind := range map[string]engine.Kind{
		"100.100.0.7": engine.Invalid, "100.100.0.1": engine.Invalid, "8.8.8.8": engine.Invalid, "::1": engine.Invalid,
		e.addr.String(): engine.Conflict,
	} {
		if ns, err := h.Attach(netip.MustParseAddr(addr)); ns != nil || engine.KindOf(err) != kind {
			t.Errorf("Attach(%s) = %v, %v; want %s", addr, ns, err, kind)
		}
	}
}

// A step that fails leaves no link, no descriptor and no claim behind.
func TestAttachAllOrNothing(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	addrs, err := h.Reserve(1)
	must(t, err)
	for _, failing := range []string{"link", "route", "neighbour", "address", "up", "default route", "gateway", "queue"} {
		broken := errors.New("broken")
		reached := false
		h.fail = func(step string) error {
			if step == failing {
				reached = true
				return broken
			}
			return nil
		}
		start := descriptors(t)
		ns, err := h.Attach(addrs[0])
		if !reached || !errors.Is(err, broken) || ns != nil {
			t.Fatalf("failing at %s: reached %v, %v, %v", failing, reached, ns, err)
		}
		eventually(t, "no link after "+failing, func() bool { return len(links(t, h.NS())) == 0 })
		eventually(t, "no descriptor after "+failing, func() bool { return descriptors(t) <= start })
	}
	h.fail = nil
	ns, err := h.Attach(addrs[0])
	must(t, err)
	ns.Close()
}

// An address can be used again at once, before the kernel has removed the link that had it.
func TestAddressAgain(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	other := attach(t, h, 1)[0]
	addrs, err := h.Reserve(1)
	must(t, err)
	for i := range 20 {
		ns, err := h.Attach(addrs[0])
		must(t, err)
		e := place{t, addrs[0], ns}
		l, err := netns.ListenTCP(ns, netip.AddrPortFrom(e.addr, 6000))
		must(t, err)
		c, err := other.dial(e.addr, 6000)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		c.Close()
		l.Close()
		ns.Close()
		h.Release(addrs[0])
		h.pool.claim(addrs[0])
	}
}

// Engines may be attached, named and released by many goroutines at once.
func TestAttachTogether(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	target := attach(t, h, 1)[0]
	target.greet(6000, "hello")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				addrs, err := h.Reserve(1)
				if err != nil {
					t.Error(err)
					return
				}
				ns, err := h.Attach(addrs[0])
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(h.Name(fmt.Sprint("engine-", i), addrs[0]), h.Young(target.addr, addrs)); err != nil {
					t.Error(err)
				}
				c, err := (place{t, addrs[0], ns}).dial(target.addr, 6000)
				if err != nil {
					t.Error(err)
				} else {
					c.Close()
				}
				ns.Close()
				h.Release(addrs...)
			}
		})
	}
	wg.Wait()
}

// A new process takes a hub over: rules and engines stay, addresses and link names are not used twice.
func TestOpen(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	engines := attach(t, h, 2)
	engines[0].greet(6000, "still here")
	fd, err := unix.FcntlInt(h.NS().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	kept := os.NewFile(uintptr(fd), "hub")
	must(t, h.Close())
	engines[1].hears(engines[0].addr, 6000, "still here")

	again, err := Open(kept, h.Prefix())
	must(t, err)
	t.Cleanup(func() { again.Close() })
	engines = append(engines, attach(t, again, 1)...)
	if got := engines[2].addr.String(); got != "100.100.0.4" {
		t.Errorf("the next address is %s", got)
	}
	if names := links(t, again.NS()); strings.Join(names, " ") != "e1 e2 e3" {
		t.Errorf("links %v", names)
	}
	engines[2].hears(engines[0].addr, 6000, "still here")
	l, err := again.Listen(0)
	must(t, err)
	serve(t, l, func(c net.Conn) { c.Write([]byte("gateway")) })
	engines[0].hears(again.Gateway(), l.(*listener).port(), "gateway")

	own, err := netns.Current()
	must(t, err)
	defer own.Close()
	if _, err := Open(own, h.Prefix()); engine.KindOf(err) != engine.NotFound {
		t.Errorf("Open of a namespace that is no hub: %v", err)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// heldNamespaces counts the network namespaces that threads or descriptors of this process hold.
func heldNamespaces(t testing.TB) int {
	t.Helper()
	found := map[string]bool{}
	for _, pattern := range []string{"/proc/self/task/*/ns/net", "/proc/self/fd/*"} {
		paths, err := filepath.Glob(pattern)
		must(t, err)
		for _, p := range paths {
			if to, err := os.Readlink(p); err == nil && strings.HasPrefix(to, "net:[") {
				found[to] = true
			}
		}
	}
	return len(found)
}

// Two hundred engines come and go, and the hub itself: the kernel removes every link, and nothing stays in this process.
// A pair between the hub and a namespace of the test shows when the hub's namespace is really gone.
func TestNothingLeft(t *testing.T) {
	requireRoot(t)
	start, held := descriptors(t), heldNamespaces(t)
	witness, err := netns.New()
	must(t, err)
	h, err := New(netip.MustParsePrefix("100.100.0.0/16"))
	must(t, err)
	must(t, h.ServeDNS(DNSOptions{}))
	must(t, h.ServeOutbound(OutboundOptions{}))
	must(t, netns.Do(witness, func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "e1"}, PeerName: "witness", PeerNamespace: netlink.NsFd(int(h.NS().Fd())),
		})
	}))
	begin := time.Now()
	for range 200 {
		addrs, err := h.Reserve(1)
		must(t, err)
		ns, err := h.Attach(addrs[0])
		must(t, err)
		ns.Close()
		h.Release(addrs[0])
	}
	t.Logf("200 engines attached and closed in %v", time.Since(begin))
	begin = time.Now()
	eventually(t, "the kernel removes the engines' links", func() bool { return len(links(t, h.NS())) == 0 })
	t.Logf("the last link was gone %v later", time.Since(begin))
	if n := len(links(t, witness)); n != 1 {
		t.Fatalf("the witness sees %d links", n)
	}
	must(t, h.Close())
	eventually(t, "the kernel removes the hub", func() bool { return len(links(t, witness)) == 0 })
	witness.Close()
	eventually(t, "no namespace is held", func() bool { return heldNamespaces(t) <= held })
	eventually(t, "no descriptor is open", func() bool { return descriptors(t) <= start })
}

// BenchmarkAttach: most of it is the kernel making a namespace and a pair of links; several at once gain nothing.
func BenchmarkAttach(b *testing.B) {
	h := newTestHub(b, "100.100.0.0/16")
	addrs, err := h.Reserve(1)
	must(b, err)
	for b.Loop() {
		ns, err := h.Attach(addrs[0])
		must(b, err)
		ns.Close()
		h.Release(addrs...)
		h.pool.claim(addrs[0])
	}
}

// The hub's end of a link sends when Attach returns. The kernel's link watcher would see to it, too, on an idle machine before
// anybody can look; the queue that it puts there has no handle, the one that was asked for has.
func TestSendsAtOnce(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	for i := range attach(t, h, 5) {
		hasOwnQueue(t, h, linkName(uint64(i+1)))
	}
	hasOwnQueue(t, newLinkedHub(t, "sendsatonce1"), hostLink)
}

func hasOwnQueue(t *testing.T, h *Hub, name string) {
	t.Helper()
	link, err := h.link.LinkByName(name)
	must(t, err)
	queues, err := h.link.QdiscList(link) // the one that loses everything is not listed
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("capability traffic control: this kernel has none, and so no queues to choose")
	}
	must(t, err)
	if len(queues) != 1 || queues[0].Type() != "noqueue" || queues[0].Attrs().Handle == 0 {
		t.Errorf("link %s has the queues %v, want noqueue with a handle", name, queues)
	}
}
