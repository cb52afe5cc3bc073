package hub

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/engine"
)

// A linked hub serves a session whose own process lives on the host, outside of any engine:
//
//	   host namespace                         hub namespace
//	┌──────────────────────────────┐        ┌──────────────────────────────────────┐
//	│ the process ── mu… OWN ──────┼─ veth ─┤ host ── rules ── e1, e2 … the engines │
//	│   route RANGE by mu…         │        │                                      │
//	│ 0.0.0.0:6000, 127.0.0.1:6000 │◄─ fds ─┤ gateway ◄─ redirect of OWN:*          │
//	└──────────────────────────────┘        └──────────────────────────────────────┘
//
//   - OWN, the process's address, is one of the range, and the host has it on its end of the link: connections to engines
//     come from it, and the process can bind to it.
//   - The host reaches all of the range by the link, so that the range is this hub's alone: the route itself is what
//     reserves it, since the kernel takes it once.
//   - What engines send to OWN does not go to the host, where it would meet every service and every firewall: TCP is
//     redirected to this process, which connects it to a socket of the session's process (ServeProcess).
//   - No packet that the host only forwards gets in: those that it makes itself leave with 255 hops to live, which the
//     route says, and whatever was forwarded has fewer (the idea of RFC 5082). Its own address is no proof, for a host that
//     masquerades, as for Docker's networks, puts it on everybody's packets.

const (
	hostLink    = "host" // the hub's end
	hostPrefix  = "mu"   // the host's end, with 12 letters or digits of the session's id
	hostNameLen = len(hostPrefix) + 12
	linkedBits  = 20 // 4,093 addresses for each linked hub
	fullHops    = 255
)

// errTaken says that another hub was faster.
var errTaken = errors.New("the range was just taken")

// NewLinked makes a hub with a link to the host, in a part of the configured range, or of 100.100.0.0/16 to 100.127.0.0/16,
// that nothing on the host uses. The link's name is made of the session's id. All or nothing; the link is gone with the
// hub's namespace.
func NewLinked(configured, session string) (*Hub, error) {
	uses, err := hostUses()
	if err != nil {
		return nil, err
	}
	ranges, err := linkedRanges(configured, uses)
	if err != nil {
		return nil, err
	}
	// From a random one on: two that begin at the same time rarely meet, and a range rests before it comes again.
	first := rand.Int()
	for i := range ranges {
		prefix := ranges[(first%len(ranges)+i)%len(ranges)]
		h, err := newLinked(prefix, session)
		if !errors.Is(err, errTaken) {
			return h, err
		}
	}
	return nil, engine.Errorf(engine.NoCapacity, "no /%d of the network is free on this host for another attached session", linkedBits).
		WithHint("end attached sessions, or choose a larger range with --network")
}

// linkedRanges lists the ranges for linked hubs that nothing uses. Of ours none becomes the host's route to its cloud's metadata.
func linkedRanges(configured string, uses []use) ([]netip.Prefix, error) {
	var bases []netip.Prefix
	if configured != "" {
		p, err := parseRange(configured)
		if err != nil {
			return nil, err
		}
		bases = append(bases, p)
	}
	for i := byte(100); i < 128 && configured == ""; i++ {
		bases = append(bases, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, i}), 16))
	}
	var free []netip.Prefix
	for _, base := range bases {
		bits := max(linkedBits, base.Bits())
		for i := range uint32(1) << (bits - base.Bits()) {
			p := netip.PrefixFrom(address(number(base.Addr())+i<<(32-bits)), bits)
			_, taken := overlap(p, uses)
			if !taken && (configured != "" || !slices.ContainsFunc(notForEngines, p.Overlaps)) {
				free = append(free, p)
			}
		}
	}
	return free, nil
}

func newLinked(prefix netip.Prefix, session string) (*Hub, error) {
	h := newHub(prefix)
	own, err := h.pool.reserve(1)
	if err != nil {
		return nil, err
	}
	h.own = own[0]
	if _, err := h.make(); err != nil {
		return nil, err
	}
	if err := h.linkHost(hostName(session)); err != nil {
		h.Close()
		return nil, fmt.Errorf("link the session's network %s to the host: %w", prefix, err)
	}
	return h, nil
}

// linkHost makes the link, and what leads to it at both ends. The calling thread is in the host's namespace.
func (h *Hub) linkHost(name string) error {
	here, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer here.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, hardware(h.own, engineEnd)
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: hostLink, PeerHardwareAddr: hardware(h.own, hubEnd),
		PeerNamespace: netlink.NsFd(int(h.ns.Fd())),
	}
	if err := errors.Join(h.step("host link"), here.LinkAdd(pair)); err != nil {
		return fmt.Errorf("make link %s: %w", name, err)
	}
	index, err := h.hubSide()
	if err != nil {
		return err
	}
	err = h.hostSide(here, name)
	if err == nil {
		err = h.activate(index)
	}
	if errors.Is(err, errTaken) {
		// The only link that is ever deleted by name, as the next attempt wants the name at once. It is rare.
		err = errors.Join(err, here.LinkDel(pair))
	}
	return err
}

// hubSide leads to the host's end, and gives the index of the hub's.
func (h *Hub) hubSide() (int, error) {
	peer, err := h.link.LinkByName(hostLink)
	if err != nil {
		return 0, fmt.Errorf("find link %s: %w", hostLink, err)
	}
	index := peer.Attrs().Index
	if err := h.link.LinkSetUp(peer); err != nil {
		return 0, fmt.Errorf("bring link %s up: %w", hostLink, err)
	}
	route := &netlink.Route{LinkIndex: index, Dst: host(h.own), Scope: netlink.SCOPE_LINK, Src: h.gateway.AsSlice()}
	if err := h.link.RouteAdd(route); err != nil {
		return 0, fmt.Errorf("route %s to the host: %w", h.own, err)
	}
	if err := h.link.NeighSet(neighbour(index, h.own, hardware(h.own, engineEnd))); err != nil {
		return 0, fmt.Errorf("set the hardware address of the host: %w", err)
	}
	return index, nil
}

// hostSide gives the host its address and its route, which is what takes the range.
func (h *Hub) hostSide(here *netlink.Handle, name string) error {
	if err := (setting{"ipv6/conf/" + name + "/disable_ipv6", "1", true}).write(); err != nil {
		return err
	}
	link, err := here.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	index := link.Attrs().Index
	if err := here.AddrAdd(link, &netlink.Addr{IPNet: host(h.own)}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, h.own, err)
	}
	if err := here.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring link %s up: %w", name, err)
	}
	if err := here.NeighSet(neighbour(index, h.gateway, hardware(h.own, hubEnd))); err != nil {
		return fmt.Errorf("set the hardware address of the gateway: %w", err)
	}
	route := &netlink.Route{
		LinkIndex: index, Dst: ipNet(h.prefix), Gw: h.gateway.AsSlice(), Src: h.own.AsSlice(),
		Flags: int(netlink.FLAG_ONLINK), Hoplimit: fullHops,
	}
	err = errors.Join(h.step("host route"), here.RouteAdd(route))
	if errors.Is(err, unix.EEXIST) {
		return errTaken
	}
	if err != nil {
		return fmt.Errorf("route %s by %s: %w", h.prefix, name, err)
	}
	return nil
}

// hostRules are what a linked hub's rules have besides.
type hostRules struct {
	arrive  [][]expr.Any // before anything else
	tracked []expr.Any   // what is not remembered has neither this sender nor this destination
	forward [][]expr.Any
	input   [][]expr.Any // after what is known
}

func (h *Hub) hostRules() hostRules {
	own := netip.PrefixFrom(h.own, 32)
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	return hostRules{
		arrive: [][]expr.Any{ // here and not in forward, where a hop is already taken off
			join(fromLink(hostLink), notIn(saddr, own), drop),
			join(fromLink(hostLink), hops(expr.CmpOpNeq, fullHops), drop),
		},
		tracked: join(notIn(saddr, own), notIn(daddr, own)),
		forward: [][]expr.Any{
			join(toLink(hostLink), known(), accept),
			join(toLink(hostLink), rejectTCP()),
			join(toLink(hostLink), rejectOther()),
		},
		// The names of engines are for the session, and the host's users all come by this link.
		input: [][]expr.Any{join(fromLink(hostLink), protocol(unix.IPPROTO_UDP), rejectOther())},
	}
}

func hostName(session string) string {
	return hostPrefix + session[:min(len(session), hostNameLen-len(hostPrefix))]
}

func isHostLink(name string) bool {
	return len(name) == hostNameLen && strings.HasPrefix(name, hostPrefix)
}
