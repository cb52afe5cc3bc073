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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/internal/linux/netns"
)

// newLinkedHub makes one for the test process itself, whose end leaves the host as it was.
func newLinkedHub(t *testing.T, session string) *Hub {
	t.Helper()
	h, err := NewLinked("", session)
	must(t, err)
	t.Cleanup(func() {
		h.Close()
		eventually(t, "the host's end of the link is gone", func() bool {
			_, err := net.InterfaceByName(hostName(session))
			return err != nil
		})
	})
	return h
}

// onHost listens in the test process's own namespace.
func onHost(t *testing.T, addr, text string) (port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	must(t, err)
	serve(t, l, func(c net.Conn) { io.WriteString(c, text) })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func hostHears(t *testing.T, to netip.Addr, port uint16, text string) {
	t.Helper()
	c, err := (&net.Dialer{Timeout: deadline}).Dial("tcp", netip.AddrPortFrom(to, port).String())
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	got, err := io.ReadAll(c)
	if err != nil || string(got) != text {
		t.Fatalf("host to %s:%d: read %q, %v; want %q", to, port, got, err, text)
	}
}

// The host reaches engines of two linked hubs that use the same ports, from the address that these hubs have for it; and
// nothing of it is left afterwards.
func TestLinked(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	before := hostState()
	t.Run("while they live", func(t *testing.T) {
		var hubs []*Hub
		for i, id := range []string{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"} {
			h := newLinkedHub(t, id)
			hubs = append(hubs, h)
			must(t, h.ServeOutbound(OutboundOptions{}))
			e := attach(t, h, 2)
			e[0].greet(6000, fmt.Sprint("engine of ", i))
			l, err := netns.ListenTCP(e[1].ns, netip.AddrPortFrom(e[1].addr, 6000))
			must(t, err)
			serve(t, l, func(c net.Conn) { io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()) })
			hostHears(t, e[0].addr, 6000, fmt.Sprint("engine of ", i))
			hostHears(t, e[1].addr, 6000, h.Own().String())
			e[1].hears(e[0].addr, 6000, fmt.Sprint("engine of ", i))
			g, err := h.Listen(0)
			must(t, err)
			serve(t, g, func(c net.Conn) { io.WriteString(c, "gateway") })
			hostHears(t, h.Gateway(), g.(*listener).port(), "gateway")
		}
		if hubs[0].Prefix().Overlaps(hubs[1].Prefix()) {
			t.Fatalf("ranges %s and %s", hubs[0].Prefix(), hubs[1].Prefix())
		}
		a, b := attach(t, hubs[0], 1)[0], attach(t, hubs[1], 1)[0]
		b.greet(7000, "secret")
		a.resets(b.addr, 7000) // not by way of the host either
		a.resets(hubs[1].Own(), 22)
		c, err := netns.DialTCP(t.Context(), a.ns, netip.AddrPortFrom(hubs[0].Own(), 6000)) // nobody serves it
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("to the process that nobody serves: %v, %v", c, err)
		}
		must(t, netns.Do(a.ns, func() error { return refusesUDP(netip.AddrPortFrom(hubs[0].Own(), 5353)) }))
		if p, err := PickRange(""); err != nil || p.String() != "100.100.0.0/16" {
			t.Errorf("for hubs without a link: %s, %v", p, err)
		}
	})
	if after := hostState(); before != after {
		t.Errorf("the host changed:\n%s\nto:\n%s", before, after)
	}
}

func refusesUDP(to netip.AddrPort) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	c.Write([]byte("x"))
	if _, err = c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("UDP to %s: %w, want that it is refused", to, err)
	}
	return nil
}

// What the host only forwards reaches no engine, not even when the host masquerades everything.
func TestLinkedForwardsNothing(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	internet := makeHost(t)
	must(t, transactionHere(func(c *nftables.Conn) error {
		c.FlushTable(&nftables.Table{Name: "firewall", Family: nftables.TableFamilyIPv4})
		c.DelTable(&nftables.Table{Name: "firewall", Family: nftables.TableFamilyIPv4})
		nat := c.AddTable(&nftables.Table{Name: "nat", Family: nftables.TableFamilyIPv4})
		post := c.AddChain(&nftables.Chain{
			Name: "post", Table: nat, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		c.AddRule(&nftables.Rule{Table: nat, Chain: post, Exprs: []expr.Any{&expr.Masq{}}})
		return nil
	}))
	must(t, setting{"ipv4/ip_forward", "1", false}.write())
	h := newLinkedHub(t, "aaaaaaaaaaaaaaaa")
	e := attach(t, h, 1)[0]
	e.greet(6000, "secret")
	hostHears(t, e.addr, 6000, "secret")
	l, err := h.Listen(0)
	must(t, err)
	must(t, netns.Do(internet, func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(h.Prefix()), Gw: net.ParseIP(hostIP)})
	}))
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(e.addr, 6000), netip.AddrPortFrom(h.Gateway(), l.(*listener).port())} {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // dropped: only time tells
		if c, err := netns.DialTCP(ctx, internet, to); err == nil {
			c.Close()
			t.Errorf("from another network %s was reached", to)
		} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("from another network to %s: %v", to, err)
		}
		cancel()
	}
	hostHears(t, e.addr, 6000, "secret") // still
}

// The way to the hub's own services is there for every user of the host, who is turned away, and learns no names.
func TestLinkedServesItsUserAlone(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	h := newLinkedHub(t, "aaaaaaaaaaaaaaaa")
	must(t, h.ServeDNS(DNSOptions{}))
	l, err := h.Listen(0)
	must(t, err)
	serve(t, l, func(c net.Conn) { io.WriteString(c, "gateway") })
	as := func(uid uint32) string {
		cmd := exec.Command("bash", "-c", fmt.Sprintf("cat < /dev/tcp/%s/%d", h.Gateway(), l.(*listener).port()))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
		out, _ := cmd.CombinedOutput() // being cut off may be an error, or an end without a word
		return string(out)
	}
	if got := as(uint32(os.Geteuid())); got != "gateway" {
		t.Errorf("its user reads %q", got)
	}
	if got := as(65534); strings.Contains(got, "gateway") {
		t.Errorf("another user reads %q", got)
	}
	h.Admit(20001)
	for uid, want := range map[uint32]string{20001: "gateway", 20002: "", 0: "gateway"} {
		if got := as(uid); !strings.Contains(got, want) || want == "" && strings.Contains(got, "gateway") {
			t.Errorf("user %d reads %q, and user 20001 is the session's", uid, got)
		}
	}
	must(t, refusesUDP(netip.AddrPortFrom(h.Gateway(), dnsPort)))
}

// becomesAnother listens twice, as user 20001 and as 20002, and then is user 20001 itself.
const becomesAnother = `
import os, socket, sys
def listen(uid):
    r, w = os.pipe()
    if os.fork() == 0:
        os.setgroups([]); os.setgid(uid); os.setuid(uid)
        s = socket.create_server(("127.0.0.1", 0))
        os.write(w, b"%d\n" % s.getsockname()[1])
        while 1: s.accept()[0].sendall(b"hello")
    return int(os.read(r, 100))
print(listen(20001), listen(20002), flush=True)
os.setgroups([]); os.setgid(20001); os.setuid(20001)
print("ready", flush=True)
sys.stdin.read()
`

// What a descendant of the session's process listens on as another user is not the session's.
func TestServeProcessThatBecameAnother(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	cmd := exec.Command("python3", "-c", becomesAnother)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	must(t, err)
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { unix.Kill(-cmd.Process.Pid, unix.SIGKILL); cmd.Wait() })
	var own, other uint16
	var ready string
	_, err = fmt.Fscan(out, &own, &other, &ready)
	must(t, err)
	h := newLinkedHub(t, "aaaaaaaaaaaaaaaa")
	must(t, h.ServeProcess(ProcessOptions{PID: cmd.Process.Pid, Session: "aaaaaaaaaaaaaaaa"}))
	e := attach(t, h, 1)[0]
	e.hears(h.Own(), own, "hello")
	e.resets(h.Own(), other)
}

// Many that begin at the same time get ranges of their own; one whose last step fails leaves nothing.
func TestLinkedTogether(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	before := hostState()
	t.Run("while they live", func(t *testing.T) {
		hubs := make([]*Hub, 8)
		var wg sync.WaitGroup
		for i := range hubs {
			wg.Go(func() {
				var err error
				if hubs[i], err = NewLinked("10.9.0.0/17", fmt.Sprintf("%d%015d", i, 0)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		seen := map[netip.Prefix]bool{}
		for _, h := range hubs {
			if seen[h.Prefix()] {
				t.Errorf("%s twice", h.Prefix())
			}
			seen[h.Prefix()] = true
		}
		if _, err := NewLinked("10.9.0.0/17", "zzzzzzzzzzzzzzzz"); err == nil || !strings.Contains(err.Error(), "no /20") {
			t.Errorf("a ninth of eight: %v", err)
		}
		for _, h := range hubs {
			must(t, h.Close())
		}
	})
	for _, step := range []string{"host link", "host route"} {
		h := newHub(netip.MustParsePrefix("10.9.0.0/20"))
		h.own = h.gateway.Next()
		h.fail = func(at string) error {
			if at == step {
				return errors.New("injected")
			}
			return nil
		}
		_, err := h.make()
		must(t, err)
		if err := h.linkHost("mufails"); err == nil {
			t.Errorf("no error at %s", step)
		}
		must(t, h.Close())
	}
	eventually(t, "the host is as before", func() bool { return hostState() == before })
}

// A hub that another process takes over still knows its own address.
func TestOpenLinked(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	h := newLinkedHub(t, "aaaaaaaaaaaaaaaa")
	fd, err := unix.FcntlInt(h.NS().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	old := attach(t, h, 1)[0]
	must(t, h.ServeProcess(ProcessOptions{PID: os.Getpid()}))
	must(t, h.Close())
	again, err := Open(os.NewFile(uintptr(fd), "hub"), h.Prefix())
	must(t, err)
	t.Cleanup(func() { again.Close() })
	if again.Own() != h.Own() {
		t.Fatalf("own address %s, was %s", again.Own(), h.Own())
	}
	must(t, again.ServeProcess(ProcessOptions{PID: os.Getpid()}))
	port := onHost(t, "127.0.0.1:0", "process")
	old.hears(h.Own(), port, "process")
	old.resets(h.Own(), 1) // not young for this process
	attach(t, again, 1)[0].hears(h.Own(), port, "process")
}

// Engines reach what the session's process listens on, wherever it is bound, before or after they connect, and nothing of
// others.
func TestServeProcess(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	h := newLinkedHub(t, "aaaaaaaaaaaaaaaa")
	must(t, h.ServeProcess(ProcessOptions{PID: os.Getpid(), Foreign: func(port uint16, holder string) { t.Errorf("foreign: %d, %s", port, holder) }}))
	e := attach(t, h, 1)[0]
	for _, at := range []string{"0.0.0.0", "127.0.0.1", hostIP, h.Own().String(), "[::]", "[::1]"} {
		e.hears(h.Own(), onHost(t, at+":0", at), at)
	}
	v6, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp6", "[::]:6100") // IPv6 only
	must(t, err)
	serve(t, v6, func(c net.Conn) { io.WriteString(c, "v6") })
	e.hears(h.Own(), 6100, "v6")

	c, err := e.dial(h.Own(), 6000) // nobody listens yet
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("early"))
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:6000")
	must(t, err)
	defer l.Close()
	late, err := l.Accept()
	must(t, err)
	defer late.Close()
	late.SetDeadline(time.Now().Add(deadline))
	got := make([]byte, 5)
	if _, err := io.ReadFull(late, got); err != nil || string(got) != "early" {
		t.Errorf("read %q, %v", got, err)
	}
	h.mu.Lock()
	h.attached[e.addr] = time.Now().Add(-youngFor)
	h.mu.Unlock()
	e.resets(h.Own(), 6001)
}

// A process that ends just when its network is opened again leads nowhere, and is no error: the session is about to end by itself.
func TestServeProcessThatHasEnded(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	h := newLinkedHub(t, "aaaaaaaaaaaaaaaa")
	child := exec.Command("true")
	must(t, child.Run())
	must(t, h.ServeProcess(ProcessOptions{PID: child.Process.Pid}))
	e := attach(t, h, 1)[0]
	h.mu.Lock()
	h.attached[e.addr] = time.Now().Add(-youngFor)
	h.mu.Unlock()
	e.resets(h.Own(), onHost(t, "127.0.0.1:0", "somebody else's"))
}

// The same for a process that is not the one that listens: its port is another's, which is told once, and its descendant's
// sockets count as its own.
func TestServeProcessOfOthers(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	port := onHost(t, "0.0.0.0:0", "private")
	child := exec.Command("sh", "-c", "sleep 1000 & wait")
	child.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	must(t, child.Start())
	t.Cleanup(func() { unix.Kill(-child.Process.Pid, unix.SIGKILL); child.Wait() })
	h := newLinkedHub(t, "aaaaaaaaaaaaaaaa")
	var mu sync.Mutex
	var told []string
	must(t, h.ServeProcess(ProcessOptions{PID: child.Process.Pid, Session: "aaaaaaaaaaaaaaaa", Foreign: func(port uint16, holder string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%d %s", port, holder))
	}}))
	e := attach(t, h, 1)[0]
	e.resets(h.Own(), port)
	e.resets(h.Own(), port)
	mu.Lock()
	if want := fmt.Sprintf("%d %s, pid %d", port, commandOf(os.Getpid()), os.Getpid()); len(told) != 1 || told[0] != want {
		t.Errorf("told %q, want once %q", told, want)
	}
	mu.Unlock()
	for _, daemon := range []bool{false, true} { // a descendant; one that only says so, as daemons do
		cmd := exec.Command("python3", "-c", "import socket\ns=socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\nwhile 1: s.accept()[0].sendall(b'hello')")
		owner := ProcessOptions{PID: os.Getpid()}
		if daemon {
			owner = ProcessOptions{PID: child.Process.Pid, Session: "bbbbbbbbbbbbbbbb"}
			cmd.Env = append(os.Environ(), "CDSW_ENGINE_ID=bbbbbbbbbbbbbbbb")
		}
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		var at uint16
		_, err = fmt.Fscan(out, &at)
		must(t, err)
		l := newLinkedHub(t, fmt.Sprintf("cccccccccccc%v", daemon)[5:])
		must(t, l.ServeProcess(owner))
		attach(t, l, 1)[0].hears(l.Own(), at, "hello")
	}
}

// Which address meets a socket of ours, and never another's.
func TestTargets(t *testing.T) {
	own := netip.MustParseAddr("100.127.0.2")
	for _, c := range []struct{ ours, others, want string }{
		{"0.0.0.0", "", "100.127.0.2 127.0.0.1"},
		{"127.0.0.1", "", "127.0.0.1"},
		{"192.0.2.1", "127.0.0.1", "192.0.2.1"},
		{"::", "", "::1 100.127.0.2"},
		{"::", "0.0.0.0", "::1"}, // only IPv6 is ours
		{"0.0.0.0", "::", "100.127.0.2 127.0.0.1"},
		{"0.0.0.0", "127.0.0.1", "100.127.0.2"}, // both with SO_REUSEPORT
		{"0.0.0.0", "0.0.0.0", ""},
		{"127.0.0.1", "0.0.0.0", "127.0.0.1"},
		{"", "0.0.0.0", ""},
		{"", "::1", ""},
	} {
		var all []socket
		for _, a := range strings.Fields(c.ours) {
			all = append(all, socket{netip.MustParseAddr(a), 1})
		}
		for _, a := range strings.Fields(c.others) {
			all = append(all, socket{netip.MustParseAddr(a), 2})
		}
		var got []string
		for _, a := range targets(own, all, map[uint64]bool{1: true}) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("ours %s, others %s: %v, want %s", c.ours, c.others, got, c.want)
		}
	}
}

// The host's own way to its cloud's metadata is not taken from it.
func TestLinkedRangesLeaveMetadataToTheHost(t *testing.T) {
	ranges, err := linkedRanges("", nil)
	if err != nil || len(ranges) == 0 {
		t.Fatal(ranges, err)
	}
	for _, r := range ranges {
		for _, m := range notForEngines {
			if r.Overlaps(m) {
				t.Errorf("%s may become the route to %s", r, m)
			}
		}
	}
}
