// Package hub is the network of one session: a network namespace in which the links of the session's engines end, and
// the little that routes, guards and serves them there.
//
//	 engine namespace            hub namespace                        host namespace
//	┌──────────────────┐        ┌──────────────────────────────┐     ┌───────────────────────────┐
//	│ eth0 100.100.0.2 ├─ veth ─┤ e1 ┐                         │     │ dials for the outside,    │
//	└──────────────────┘        │    ├ routes, rules,          │ fds │ asks the host's resolvers │
//	┌──────────────────┐        │    │ gateway 100.100.0.1 ────┼─────┤ (this process)            │
//	│ eth0 100.100.0.3 ├─ veth ─┤ e2 ┘ on lo, DNS, outbound    │     │                           │
//	└──────────────────┘        └──────────────────────────────┘     └───────────────────────────┘
//
// A linked hub (link.go) has one more veth, to the host: for a session whose own process lives there.
//
// The ideas:
//   - Sessions are apart by construction: no link, route or rule leads from one hub to another, so that all may use the
//     same addresses. Nothing is added to the host's own network, but for the link of a linked hub, which has a range
//     of its own and vanishes with its hub.
//   - Everything lives by descriptors. When the last holder of the hub's namespace is gone, so are its links, rules and
//     addresses; when an engine's namespace is closed and its processes have ended, the kernel removes its link and
//     route. Nothing is ever deleted by name (deleting one link blocks for 30 ms), and no name is used twice.
//   - Each engine has a routed link of its own (/32, no bridge): fixed hardware addresses and permanent neighbour entries
//     make ARP unnecessary, and strict reverse path filtering makes false sender addresses impossible.
//
// Packages driver/* use it. It looks at package engine for error kinds and at linux/netns, linux/peer and linux/pidfd.
package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/internal/linux/netns"
)

// Hub is the network of one session. Methods are safe for concurrent use; none may be called after Close.
type Hub struct {
	ns      *os.File
	prefix  netip.Prefix
	gateway netip.Addr
	own     netip.Addr      // of the session's process on the host; invalid if the hub is not linked
	link    *netlink.Handle // its socket is in the hub's namespace
	pool    *pool
	names   *names

	mu        sync.Mutex
	attached  map[netip.Addr]time.Time // when; zero: before this process
	links     uint64                   // number of the last link: names are never used twice
	listeners map[*listener]bool
	services  []func() error // what Close ends first: outbound and DNS
	process   *process       // the session's, if it is served
	user      int            // whose programs on the host reach the gateway of a linked hub

	fail func(step string) error // tests let steps fail here
}

// New makes a hub for the engines of prefix (see PickRange). All or nothing.
func New(prefix netip.Prefix) (*Hub, error) {
	if err := checkRange(prefix); err != nil {
		return nil, err
	}
	return newHub(prefix).make()
}

func (h *Hub) make() (*Hub, error) {
	ns, err := netns.NewWith(func(*os.File) error { return h.setUp() })
	if err != nil {
		h.closeSockets()
		return nil, fmt.Errorf("make the session's network %s: %w", h.prefix, err)
	}
	h.ns = ns
	return h, nil
}

// Open takes over a hub that another process made, by its namespace: rules stay as they are, and the addresses of engines
// that are attached count as reserved. Listen, ServeOutbound and ServeDNS have to be called again. Ownership of ns goes
// to the hub, but only if there is no error.
func Open(ns *os.File, prefix netip.Prefix) (*Hub, error) {
	if err := checkRange(prefix); err != nil {
		return nil, err
	}
	h := newHub(prefix)
	if err := netns.Do(ns, h.learn); err != nil {
		h.closeSockets()
		return nil, fmt.Errorf("take the session's network %s over: %w", prefix, err)
	}
	h.ns = ns
	return h, nil
}

func newHub(prefix netip.Prefix) *Hub {
	return &Hub{
		prefix: prefix, gateway: prefix.Addr().Next(), pool: newPool(prefix), names: newNames(prefix),
		attached: map[netip.Addr]time.Time{}, listeners: map[*listener]bool{}, user: os.Geteuid(),
	}
}

// NS is the hub's namespace: whoever holds a copy of this descriptor keeps the network alive. It stays the hub's.
func (h *Hub) NS() *os.File { return h.ns }

// Gateway is the hub's own address, where DNS and Listen are.
func (h *Hub) Gateway() netip.Addr { return h.gateway }

// Own is the address of the session's process on the host, as engines see it; invalid if the hub is not linked.
func (h *Hub) Own() netip.Addr { return h.own }

// Prefix is the range of the hub's addresses.
func (h *Hub) Prefix() netip.Prefix { return h.prefix }

// Reserve gives n addresses for engines to come, in increasing order; none that was given before is given again until
// the range is used up. NoCapacity if there are not so many.
func (h *Hub) Reserve(n int) ([]netip.Addr, error) { return h.pool.reserve(n) }

// Release gives addresses back, and with them the names registered for them. The engines must have ended. Addresses
// that are not reserved are ignored.
func (h *Hub) Release(addrs ...netip.Addr) {
	h.mu.Lock()
	for _, a := range addrs {
		delete(h.attached, a)
	}
	h.mu.Unlock()
	h.names.forget(addrs)
	h.pool.release(addrs)
}

// Detach says that the engine that has a reserved address is gone, and another one comes in its place.
func (h *Hub) Detach(addr netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.attached, addr)
}

// Settle tells a hub that was opened which engines live, and the addresses that were given to others still to come: those are
// reserved and can be attached. What else Open found is free: a process that was killed was making it, and its network went
// with that process's descriptors.
func (h *Hub) Settle(living, coming []netip.Addr) {
	h.mu.Lock()
	lost := maps.Clone(h.attached)
	h.mu.Unlock()
	for _, a := range living {
		delete(lost, a)
	}
	h.Release(slices.Collect(maps.Keys(lost))...)
	for _, a := range coming {
		h.pool.claim(a)
	}
}

// Close ends what the hub serves and gives its namespace up. Engines keep their network only as long as somebody else
// holds the namespace.
func (h *Hub) Close() error {
	h.mu.Lock()
	services := h.services
	h.services = nil
	var open []*listener
	for l := range h.listeners {
		open = append(open, l)
	}
	h.listeners = nil // says that the hub is closed
	h.mu.Unlock()
	var errs []error
	for _, end := range services {
		errs = append(errs, end())
	}
	for _, l := range open {
		errs = append(errs, l.end())
	}
	h.closeSockets()
	errs = append(errs, h.ns.Close())
	return errors.Join(errs...)
}

func (h *Hub) closeSockets() {
	if h.link != nil {
		h.link.Close()
	}
}

func (h *Hub) step(name string) error {
	if h.fail != nil {
		return h.fail(name)
	}
	return nil
}

// setUp makes a fresh namespace, in which the calling thread is, the hub's.
func (h *Hub) setUp() error {
	if err := netns.LoHere(); err != nil {
		return err
	}
	for _, s := range hubSettings {
		if err := s.write(); err != nil {
			return err
		}
	}
	var err error
	if h.link, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	lo, err := h.link.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := h.link.AddrAdd(lo, &netlink.Addr{IPNet: host(h.gateway)}); err != nil {
		return fmt.Errorf("give lo the gateway's address %s: %w", h.gateway, err)
	}
	// What is in the range but not attached is unreachable at once, instead of being looked for elsewhere.
	err = h.link.RouteAdd(&netlink.Route{Dst: ipNet(h.prefix), Type: unix.RTN_UNREACHABLE})
	if err != nil {
		return fmt.Errorf("route %s: %w", h.prefix, err)
	}
	return h.addRules()
}

// learn finds out, in the hub's namespace, what an earlier process has attached.
func (h *Hub) learn() error {
	if err := h.checkRules(); err != nil {
		return err
	}
	var err error
	if h.link, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	links, err := whole(h.link.LinkList) // engines may be ending meanwhile
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	toHost := 0
	for _, l := range links {
		if l.Attrs().Name == hostLink {
			toHost = l.Attrs().Index
		}
		if n, ok := linkNumber(l.Attrs().Name); ok {
			h.links = max(h.links, n)
		}
	}
	routes, err := whole(func() ([]netlink.Route, error) { return h.link.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		a, ok := engineOf(r)
		switch {
		case !ok || !h.pool.claim(a):
		case r.LinkIndex == toHost:
			h.own = a
		default:
			h.attached[a] = time.Time{}
		}
	}
	return nil
}

// engineOf returns the address of the engine that a route of the hub leads to.
func engineOf(r netlink.Route) (netip.Addr, bool) {
	if r.Dst == nil || r.Type != unix.RTN_UNICAST {
		return netip.Addr{}, false
	}
	if ones, _ := r.Dst.Mask.Size(); ones != 32 {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
	return a, ok
}

// setting is one file below /proc/sys/net. The calling thread's namespace is meant.
type setting struct {
	path, value string
	optional    bool // the kernel may lack it
}

var hubSettings = []setting{
	{"ipv6/conf/all/disable_ipv6", "1", true},
	{"ipv6/conf/default/disable_ipv6", "1", true},
	{"ipv4/ip_forward", "1", false},
	// Strict: what arrives on a link must come from the address to which that link leads.
	{"ipv4/conf/all/rp_filter", "1", false},
	{"ipv4/conf/default/rp_filter", "1", false},
	// Refusals are told every time, not once a second: a client must get its error at once.
	{"ipv4/icmp_ratelimit", "0", false},
}

var engineSettings = []setting{
	// eth0 comes later and has no use for link-local IPv6; ::1 on lo stays.
	{"ipv6/conf/default/disable_ipv6", "1", true},
	// Every port is free, also those below 1024, also for ordinary users.
	{"ipv4/ip_unprivileged_port_start", "0", true},
}

func (s setting) write() error {
	path := "/proc/sys/net/" + s.path
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		if s.optional && errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(s.value)); err != nil {
		return fmt.Errorf("write %s to %s: %w", s.value, path, err)
	}
	return nil
}

func host(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, 32)) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// hardware gives the fixed address of one end of an engine's link: locally administered, made of the engine's address.
func hardware(a netip.Addr, end byte) net.HardwareAddr {
	b := a.As4()
	return append(net.HardwareAddr{0x02, end}, b[:]...)
}

const (
	hubEnd    = 0x01
	engineEnd = 0x02
)

func linkName(n uint64) string { return fmt.Sprintf("e%d", n) }

func linkNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, "e")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}
