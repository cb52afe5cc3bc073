package hub

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/linux/netns"
)

// Attach makes the network of one engine: a namespace with lo and with eth0 that carries addr, a reserved address, and
// leads to the hub. The caller owns the returned descriptor. When it is closed and the engine's processes have ended,
// the kernel removes all of it; Release then makes the address free. All or nothing.
func (h *Hub) Attach(addr netip.Addr) (ns *os.File, err error) {
	err = h.attach(addr, func(setup func(ns *os.File) error) (err error) {
		ns, err = netns.NewWith(setup)
		return err
	})
	return ns, err
}

// AttachTo is Attach with a namespace that is there already, and empty.
func (h *Hub) AttachTo(ns *os.File, addr netip.Addr) error {
	return h.attach(addr, func(setup func(ns *os.File) error) error {
		return netns.Do(ns, func() error { return setup(ns) })
	})
}

func (h *Hub) attach(addr netip.Addr, inside func(setup func(ns *os.File) error) error) error {
	number, err := h.claimLink(addr)
	if err != nil {
		return err
	}
	err = inside(func(ns *os.File) error {
		index, err := h.joinLink(addr, linkName(number), ns)
		if err != nil {
			return err
		}
		if err := h.engineSide(addr); err != nil {
			return err
		}
		return h.activate(index)
	})
	if err != nil {
		h.mu.Lock()
		delete(h.attached, addr)
		h.mu.Unlock()
		return fmt.Errorf("attach %s: %w", addr, err)
	}
	return nil
}

// claimLink makes addr attached and gives the number of its link.
func (h *Hub) claimLink(addr netip.Addr) (uint64, error) {
	if !h.pool.has(addr) {
		return 0, engine.Errorf(engine.Invalid, "attach %s: the address is not reserved in %s", addr, h.prefix)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.attached[addr]; there {
		return 0, engine.Errorf(engine.Conflict, "attach %s: an engine has this address already", addr)
	}
	h.attached[addr] = time.Now()
	h.links++
	return h.links, nil
}

// joinLink makes the pair, its far end as eth0 in ns, and everything about it in the hub, and gives the index of the
// hub's end. The calling thread is in ns.
func (h *Hub) joinLink(addr netip.Addr, name string, ns *os.File) (int, error) {
	for _, s := range engineSettings {
		if err := s.write(); err != nil {
			return 0, err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags, attrs.HardwareAddr = name, net.FlagUp, hardware(addr, hubEnd)
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: hardware(addr, engineEnd),
		PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	err := errors.Join(h.step("link"), h.link.LinkAdd(pair))
	if err != nil {
		return 0, fmt.Errorf("make link %s: %w", name, err)
	}
	if pair.Index == 0 {
		made, err := h.link.LinkByName(name)
		if err != nil {
			return 0, fmt.Errorf("find link %s: %w", name, err)
		}
		pair.Index = made.Attrs().Index
	}
	// Replace: the link of an engine that had this address before may still wait for its removal by the kernel.
	route := &netlink.Route{LinkIndex: pair.Index, Dst: host(addr), Scope: netlink.SCOPE_LINK, Src: h.gateway.AsSlice()}
	if err := errors.Join(h.step("route"), h.link.RouteReplace(route)); err != nil {
		return 0, fmt.Errorf("route %s to link %s: %w", addr, name, err)
	}
	err = errors.Join(h.step("neighbour"), h.link.NeighSet(neighbour(pair.Index, addr, hardware(addr, engineEnd))))
	if err != nil {
		return 0, fmt.Errorf("set the hardware address of %s: %w", addr, err)
	}
	return pair.Index, nil
}

// activate makes the hub's end of a link send what it is given. That end came up while the other was down, and then the
// kernel puts a queue that loses everything there until its link watcher gets the lock of all network changes, which may take
// a while on a machine that makes many links: the first answer of the DNS to an engine was lost so. Setting the queue that
// such a link has anyway makes the kernel put it there at once (Linux, net/sched/sch_generic.c, dev_activate).
func (h *Hub) activate(index int) error {
	queue := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_ROOT}, QdiscType: "noqueue",
	}
	err := errors.Join(h.step("queue"), h.link.QdiscReplace(queue))
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a kernel without traffic control: the link watcher does it
		return fmt.Errorf("activate the hub's end: %w", err)
	}
	return nil
}

// engineSide sets up lo and eth0 in the engine's namespace, in which the calling thread is.
func (h *Hub) engineSide(addr netip.Addr) error {
	if err := netns.LoHere(); err != nil {
		return err
	}
	link, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer link.Close()
	eth0, err := link.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	index := eth0.Attrs().Index
	if err := errors.Join(h.step("address"), link.AddrAdd(eth0, &netlink.Addr{IPNet: host(addr)})); err != nil {
		return fmt.Errorf("give eth0 the address %s: %w", addr, err)
	}
	if err := errors.Join(h.step("up"), link.LinkSetUp(eth0)); err != nil {
		return fmt.Errorf("bring eth0 up: %w", err)
	}
	route := &netlink.Route{
		LinkIndex: index, Gw: h.gateway.AsSlice(), Src: addr.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	}
	if err := errors.Join(h.step("default route"), link.RouteAdd(route)); err != nil {
		return fmt.Errorf("add the default route by %s: %w", h.gateway, err)
	}
	err = errors.Join(h.step("gateway"), link.NeighSet(neighbour(index, h.gateway, hardware(addr, hubEnd))))
	if err != nil {
		return fmt.Errorf("set the hardware address of the gateway: %w", err)
	}
	return nil
}

func neighbour(link int, ip netip.Addr, hw net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: link, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: hw,
	}
}
