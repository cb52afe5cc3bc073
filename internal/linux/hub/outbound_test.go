package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/internal/linux/netns"
)

const (
	hostIP    = "198.51.100.1"
	routerIP  = "198.51.100.2"
	websiteIP = "203.0.113.5" // somewhere behind the router
)

// makeHost gives the process's fresh namespace what a host has: loopback, a link to the internet (another namespace,
// returned), a default route, no forwarding, and a firewall that drops everything that would be forwarded.
func makeHost(t *testing.T) (internet *os.File) {
	t.Helper()
	must(t, netns.LoHere())
	internet, err := netns.New()
	must(t, err)
	t.Cleanup(func() { internet.Close() })
	must(t, netns.Do(internet, netns.LoHere))
	must(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "wan0"}, PeerName: "wan0", PeerNamespace: netlink.NsFd(int(internet.Fd())),
	}))
	up := func(address string) netlink.Link {
		wan, err := netlink.LinkByName("wan0")
		must(t, err)
		must(t, netlink.AddrAdd(wan, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(address + "/24"))}))
		must(t, netlink.LinkSetUp(wan))
		return wan
	}
	must(t, netns.Do(internet, func() error {
		up(routerIP)
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		for _, a := range []string{websiteIP, "169.254.169.254"} {
			must(t, netlink.AddrAdd(lo, &netlink.Addr{IPNet: host(netip.MustParseAddr(a))}))
		}
		return nil
	}))
	wan := up(hostIP)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: wan.Attrs().Index, Gw: net.ParseIP(routerIP)}))
	must(t, transactionHere(func(c *nftables.Conn) error {
		drop := nftables.ChainPolicyDrop
		firewall := c.AddTable(&nftables.Table{Name: "firewall", Family: nftables.TableFamilyIPv4})
		c.AddChain(&nftables.Chain{
			Name: "forward", Table: firewall, Type: nftables.ChainTypeFilter, Policy: &drop,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		return nil
	}))
	return internet
}

// website answers at an address of the internet when the client has said all it has to say.
func website(t *testing.T, internet *os.File, addr string) {
	l, err := netns.ListenTCP(internet, netip.MustParseAddrPort(addr))
	must(t, err)
	serve(t, l, func(c net.Conn) {
		text, err := io.ReadAll(c)
		fmt.Fprintf(c, "%s said %d bytes, %v", c.RemoteAddr().(*net.TCPAddr).IP, len(text), err)
	})
}

// resets connects, which works because the hub answers, and wants the connection to be reset.
func (p place) resets(to netip.Addr, port uint16) {
	p.t.Helper()
	c, err := p.dial(to, port)
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		p.t.Errorf("%s to %s:%d: %v, want a reset", p.addr, to, port, err)
	}
}

// Engines reach the internet through a host that forwards nothing, with the host's address and half closes intact; they
// reach neither the host nor what is refused by design; and the host's own network is as it was.
func TestOutbound(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	internet := makeHost(t)
	website(t, internet, websiteIP+":80")
	website(t, internet, "169.254.169.254:80")
	for address, what := range map[string]string{hostIP + ":8080": "public", "127.0.0.1:8081": "private"} {
		service, err := net.Listen("tcp", address)
		must(t, err)
		serve(t, service, func(c net.Conn) { io.WriteString(c, what) })
	}

	before := hostState()
	h := newTestHub(t, "100.101.0.0/16")
	must(t, h.ServeOutbound(OutboundOptions{}))
	e := attach(t, h, 2)
	site := netip.MustParseAddr(websiteIP)
	c, err := e[0].dial(site, 80)
	must(t, err)
	defer c.Close()
	_, err = c.Write(make([]byte, 3_000_000))
	must(t, err)
	must(t, c.(*net.TCPConn).CloseWrite())
	text, err := io.ReadAll(c)
	if want := hostIP + " said 3000000 bytes, <nil>"; err != nil || string(text) != want {
		t.Fatalf("the website answered %q, %v; want %q", text, err, want)
	}
	e[1].resets(site, 81) // nobody listens there
	e[1].resets(netip.MustParseAddr(hostIP), 80)
	e[1].hears(netip.MustParseAddr(hostIP), 8080, "public") // a database on the same machine
	e[1].resets(netip.MustParseAddr(hostIP), 8081)          // what the host keeps to its loopback
	for _, never := range []string{"169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200", "224.0.0.1", "0.1.2.3", "255.255.255.255"} {
		e[1].fails(netip.MustParseAddr(never), 80, unix.ENETUNREACH, unix.EINVAL, unix.EACCES, unix.EHOSTUNREACH)
	}
	e[1].fails(netip.MustParseAddr("127.0.0.1"), 8081, unix.ECONNREFUSED)   // its own loopback
	e[1].fails(netip.MustParseAddr("100.101.3.3"), 8080, unix.EHOSTUNREACH) // inside, not outside
	e[1].resets(h.Gateway(), h.outboundPort(t))                             // the redirecting port itself
	e[0].greet(6000, "neighbour")
	e[1].hears(e[0].addr, 6000, "neighbour")
	if after := hostState(); before != after {
		t.Errorf("the host changed:\n%s\nto:\n%s", before, after)
	}
}

// outboundPort finds the port that outbound connections are redirected to.
func (h *Hub) outboundPort(t *testing.T) uint16 {
	t.Helper()
	for l := range h.listeners {
		return l.port()
	}
	t.Fatal("nothing listens")
	return 0
}

// A dial that takes long ends with the hub, as do connections that are open, and their goroutines.
func TestOutboundEnds(t *testing.T) {
	if !inFakeHost(t) { // with a way out, whatever this machine's is
		return
	}
	makeHost(t)
	h := newTestHub(t, "100.100.0.0/16")
	dialling := make(chan struct{})
	var once sync.Once
	far, near := net.Pipe()
	defer near.Close()
	must(t, h.ServeOutbound(OutboundOptions{
		MaxConns: 2,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "192.0.2.1:80" {
				return far, nil
			}
			once.Do(func() { close(dialling) })
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}))
	e := attach(t, h, 1)[0]
	open, err := e.dial(netip.MustParseAddr("192.0.2.1"), 80)
	must(t, err)
	defer open.Close()
	near.SetDeadline(time.Now().Add(deadline))
	_, err = open.Write([]byte("x"))
	must(t, err)
	_, err = near.Read(make([]byte, 1))
	must(t, err)
	waiting, err := e.dial(netip.MustParseAddr("192.0.2.2"), 80)
	must(t, err)
	defer waiting.Close()
	<-dialling
	third, err := e.dial(netip.MustParseAddr("192.0.2.3"), 80) // waits for a place
	must(t, err)
	defer third.Close()
	must(t, h.Close())
	for _, c := range []net.Conn{open, waiting, third} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection outlived the hub: %v", err)
		}
	}
}

// Names of the outside are resolved by the host's resolver on 127.0.0.53, which no engine could reach.
func TestDNSThroughHost(t *testing.T) {
	if !inFakeHost(t) {
		return
	}
	makeHost(t)
	startResolver(t, "127.0.0.53:53", map[string]string{"www.example.org.": websiteIP})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(conf, []byte("# systemd\nnameserver 127.0.0.53\noptions edns0\n"), 0o644))
	h := newTestHub(t, "100.100.0.0/16")
	must(t, h.ServeDNS(DNSOptions{ResolvConf: conf}))
	e := attach(t, h, 1)[0]
	for _, network := range []string{"udp", "tcp"} {
		got, err := e.resolver(h, network).LookupHost(t.Context(), "www.example.org")
		if err != nil || len(got) != 1 || got[0] != websiteIP {
			t.Errorf("by %s: %v, %v", network, got, err)
		}
		var dnsErr *net.DNSError
		if _, err := e.resolver(h, network).LookupHost(t.Context(), "nowhere.example.org"); !errors.As(err, &dnsErr) ||
			!dnsErr.IsNotFound {
			t.Errorf("by %s: %v, want that there is no such host", network, err)
		}
	}
}
