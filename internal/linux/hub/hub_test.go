package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"muster/internal/linux/netns"
)

const (
	deadline = 30 * time.Second
	fakeHost = "MUSTER_TEST_FAKE_HOST"
)

// TestMain checks that nothing here changes the host's own network, and that no goroutine is left.
func TestMain(m *testing.M) {
	real := os.Geteuid() == 0 && os.Getenv(fakeHost) == ""
	var before string
	if real {
		before = hostState()
	}
	code := m.Run()
	if after := hostState(); real && before != after {
		fmt.Fprintf(os.Stderr, "the host's network changed:\nbefore:\n%s\nafter:\n%s\n", before, after)
		code = 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// hostState describes the network of the test process's own namespace.
func hostState() string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, f := range []string{"ip_forward", "conf/all/rp_filter", "conf/default/rp_filter", "icmp_ratelimit",
		"ip_unprivileged_port_start"} {
		text, err := os.ReadFile("/proc/sys/net/ipv4/" + f)
		add("%s %s %v", f, text, err)
	}
	links, err := netlink.LinkList()
	add("links %v", err)
	for _, l := range links {
		add("link %d %s", l.Attrs().Index, l.Attrs().Name)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	add("addresses %v", err)
	for _, a := range addrs {
		add("address %s", a)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	add("routes %v", err)
	for _, r := range routes {
		add("route %s", r)
	}
	c, _ := nftables.New()
	tables, err := c.ListTables()
	add("tables %v", err)
	for _, t := range tables {
		add("table %d %s", t.Family, t.Name)
	}
	return strings.Join(lines, "\n")
}

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test makes network namespaces")
	}
}

// inFakeHost runs the calling test in a process of its own that has a network namespace of its own for a host. It returns
// true in that process; where it returns false the test is over.
func inFakeHost(t *testing.T) bool {
	t.Helper()
	requireRoot(t)
	if os.Getenv(fakeHost) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), fakeHost+"=1")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("in a host of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func newTestHub(t testing.TB, prefix string) *Hub {
	t.Helper()
	requireRoot(t)
	h, err := New(netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// place is an engine's network.
type place struct {
	t    testing.TB
	addr netip.Addr
	ns   *os.File
}

func attach(t testing.TB, h *Hub, n int) []place {
	t.Helper()
	addrs, err := h.Reserve(n)
	if err != nil {
		t.Fatal(err)
	}
	var places []place
	for _, a := range addrs {
		ns, err := h.Attach(a)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		places = append(places, place{t, a, ns})
	}
	return places
}

// greet listens on every address of the engine and tells whoever connects text.
func (p place) greet(port uint16, text string) {
	p.t.Helper()
	l, err := netns.ListenTCP(p.ns, netip.AddrPortFrom(netip.IPv4Unspecified(), port))
	if err != nil {
		p.t.Fatal(err)
	}
	serve(p.t, l, func(c net.Conn) { io.WriteString(c, text) })
}

// serve answers connections until the test is over.
func serve(t testing.TB, l net.Listener, handle func(net.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(deadline))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

func (p place) dial(to netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	c, err := netns.DialTCP(ctx, p.ns, netip.AddrPortFrom(to, port))
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(deadline))
	return c, nil
}

// hears connects and wants to be told text.
func (p place) hears(to netip.Addr, port uint16, text string) {
	p.t.Helper()
	c, err := p.dial(to, port)
	if err != nil {
		p.t.Fatalf("%s to %s: %v", p.addr, to, err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != text {
		p.t.Fatalf("%s to %s: read %q, %v; want %q", p.addr, to, got, err, text)
	}
}

// fails connects and wants that to be refused with one of the errors. A packet that is dropped would time out.
func (p place) fails(to netip.Addr, port uint16, want ...error) {
	p.t.Helper()
	c, err := p.dial(to, port)
	if err == nil {
		c.Close()
		p.t.Fatalf("%s reached %s:%d", p.addr, to, port)
	}
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		p.t.Fatalf("%s to %s:%d: %v; want %v", p.addr, to, port, err, want)
	}
}

// eventually waits for a condition that no channel tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

func links(t testing.TB, ns *os.File) []string {
	t.Helper()
	var names []string
	err := netns.Do(ns, func() error {
		all, err := whole(netlink.LinkList)
		for _, l := range all {
			if _, ours := linkNumber(l.Attrs().Name); ours {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
