package hub

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/internal/linux/netns"
)

// What is not allowed is refused at once: a client gets an error, not a long wait.
func TestRefusals(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	e := attach(t, h, 2)
	e[0].fails(e[1].addr, 6000, unix.ECONNREFUSED)                                        // nobody listens
	e[0].fails(h.Gateway(), 22, unix.ECONNREFUSED)                                        // a closed port of the gateway
	e[0].fails(netip.MustParseAddr("100.100.9.9"), 80, unix.EHOSTUNREACH)                 // nobody has this address
	e[0].fails(netip.MustParseAddr("192.0.2.1"), 80, unix.ENETUNREACH)                    // outside, without ServeOutbound
	e[0].fails(netip.MustParseAddr("169.254.169.254"), 80, unix.ENETUNREACH, unix.EACCES) // cloud metadata

	udp, err := netns.ListenUDP(e[0].ns, netip.AddrPortFrom(e[0].addr, 0))
	must(t, err)
	udp.Close()
	var refused error
	must(t, netns.Do(e[0].ns, func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(h.Gateway(), 99).String())
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(deadline))
		c.Write([]byte("x"))
		_, refused = c.Read(make([]byte, 1))
		return nil
	}))
	if !isRefused(refused) {
		t.Errorf("UDP to a closed port of the gateway: %v", refused)
	}
}

func isRefused(err error) bool {
	op, ok := err.(*net.OpError)
	if !ok {
		return false
	}
	sys, ok := op.Err.(*os.SyscallError)
	return ok && sys.Err == unix.ECONNREFUSED
}

// A port of the gateway is open as long as its listener lives, and to the session's own engines only.
func TestListen(t *testing.T) {
	a, b := newTestHub(t, "100.100.0.0/16"), newTestHub(t, "100.100.0.0/16")
	ea, eb := attach(t, a, 2), attach(t, b, 1)
	l, err := a.Listen(7000)
	must(t, err)
	serve(t, l, func(c net.Conn) { io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()) })
	for _, e := range ea {
		e.hears(a.Gateway(), 7000, e.addr.String())
	}
	eb[0].fails(b.Gateway(), 7000, unix.ECONNREFUSED)
	if _, err := a.Listen(7000); err == nil {
		t.Error("a second listener on the same port")
	}
	if _, err := a.Listen(70000); err == nil {
		t.Error("a listener on port 70000")
	}
	must(t, l.Close())
	must(t, l.Close())
	ea[0].fails(a.Gateway(), 7000, unix.ECONNREFUSED)
	// The port is closed by the rules, too: a socket alone opens nothing.
	bare, err := netns.ListenTCP(a.NS(), netip.AddrPortFrom(a.Gateway(), 7000))
	must(t, err)
	defer bare.Close()
	ea[0].fails(a.Gateway(), 7000, unix.ECONNREFUSED)
}

// An engine cannot send under another address: neither another engine's nor one of the outside. Datagrams of one sender
// arrive in order, so that what arrives first tells what was dropped. Without the kernel's check all of them arrive.
func TestNoFalseSenders(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	e := attach(t, h, 3)
	inbox, err := netns.ListenUDP(e[2].ns, netip.AddrPortFrom(e[2].addr, 5000))
	must(t, err)
	defer inbox.Close()
	inbox.SetDeadline(time.Now().Add(deadline))
	var senders []*net.UDPConn
	for _, from := range []netip.Addr{e[1].addr, netip.MustParseAddr("192.0.2.7"), h.Gateway(), e[0].addr} {
		must(t, netns.Do(e[0].ns, func() error {
			lo, err := netlink.LinkByName("lo")
			if err == nil && from != e[0].addr {
				err = netlink.AddrAdd(lo, &netlink.Addr{IPNet: host(from)})
			}
			return err
		}))
		c, err := netns.ListenUDP(e[0].ns, netip.AddrPortFrom(from, 0))
		must(t, err)
		defer c.Close()
		senders = append(senders, c)
	}
	receive := func() string {
		t.Helper()
		for _, c := range senders {
			_, err := c.WriteToUDPAddrPort([]byte(c.LocalAddr().(*net.UDPAddr).IP.String()),
				netip.AddrPortFrom(e[2].addr, 5000))
			must(t, err)
		}
		buf := make([]byte, 100)
		n, from, err := inbox.ReadFromUDPAddrPort(buf)
		must(t, err)
		if got := from.Addr().Unmap().String(); got != string(buf[:n]) {
			t.Errorf("from %s came %q", got, buf[:n])
		}
		return string(buf[:n])
	}
	if got := receive(); got != e[0].addr.String() {
		t.Fatalf("a datagram of %s arrived from engine %s", got, e[0].addr)
	}
	must(t, netns.Do(h.NS(), func() error {
		for _, where := range []string{"all", "default", "e1", "e2", "e3"} {
			if err := (setting{"ipv4/conf/" + where + "/rp_filter", "0", false}).write(); err != nil {
				return err
			}
		}
		return nil
	}))
	if got := receive(); got != e[1].addr.String() {
		t.Fatalf("with the check switched off %s came first: this test shows nothing", got)
	}
}

// droppedRefusals reads the counter of the rule for young workers.
func droppedRefusals(t testing.TB, h *Hub) uint64 {
	t.Helper()
	var packets uint64
	must(t, netns.Do(h.NS(), func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		rules, err := c.GetRules(table, &nftables.Chain{Name: "forward", Table: table})
		for _, r := range rules {
			for _, e := range r.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					packets = counter.Packets
				}
			}
		}
		return err
	}))
	return packets
}

// A young worker connects before its master listens: the kernel tries again, and it succeeds. Without the rule, and
// between workers, the refusal comes at once.
func TestConnectBeforeBind(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	e := attach(t, h, 3)
	master, worker, sibling := e[0], e[1], e[2]
	worker.fails(master.addr, 6000, unix.ECONNREFUSED)
	must(t, h.Young(master.addr, []netip.Addr{worker.addr, sibling.addr}))
	sibling.fails(worker.addr, 6000, unix.ECONNREFUSED)
	master.fails(worker.addr, 6000, unix.ECONNREFUSED)

	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result, 1)
	begin := time.Now()
	go func() {
		c, err := worker.dial(master.addr, 6000)
		done <- result{c, err}
	}()
	eventually(t, "the refusal is dropped", func() bool { return droppedRefusals(t, h) > 0 })
	master.greet(6000, "welcome")
	r := <-done
	if r.err != nil {
		t.Fatalf("the early connection failed: %v", r.err)
	}
	text, err := io.ReadAll(r.c)
	r.c.Close()
	if err != nil || string(text) != "welcome" {
		t.Fatalf("read %q, %v", text, err)
	}
	t.Logf("connected %v after the first try", time.Since(begin))

	// The pair's time is over: a refusal is a refusal again.
	must(t, h.transaction(func(c *nftables.Conn) error { c.FlushSet(youngSet()); return nil }))
	worker.fails(master.addr, 6001, unix.ECONNREFUSED)
}

// A reset of an established connection reaches a young worker.
func TestYoungSeesResets(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	e := attach(t, h, 2)
	must(t, h.Young(e[0].addr, []netip.Addr{e[1].addr}))
	l, err := netns.ListenTCP(e[0].ns, netip.AddrPortFrom(e[0].addr, 6000))
	must(t, err)
	serve(t, l, func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0)
	})
	c, err := e[1].dial(e[0].addr, 6000)
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("x"))
	must(t, err)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("read: %v, want a reset", err)
	}
}

// Thousands of workers are one change, and each pair has its time limit.
func TestYoungMany(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	addrs, err := h.Reserve(3001)
	must(t, err)
	must(t, h.Young(addrs[0], nil))
	must(t, h.Young(addrs[0], addrs[1:1001]))
	must(t, h.Young(addrs[0], addrs[1:]))
	must(t, netns.Do(h.NS(), func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		set, err := c.GetSetByName(table, "young")
		if err != nil {
			return err
		}
		elements, err := c.GetSetElements(set)
		if err != nil {
			return err
		}
		if len(elements) != 3000 {
			t.Errorf("%d pairs, want 3000", len(elements))
		}
		for _, el := range elements {
			if el.Expires <= 0 || el.Expires > youngFor {
				t.Errorf("pair %v ends in %v", el.Key, el.Expires)
				break
			}
		}
		return nil
	}))
}
