package hub

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/linux/netns"
)

// What the rules of a hub say, in nft's own words (the range and the gateway filled in):
//
//	table ip muster {
//	    set young { type ipv4_addr . ipv4_addr; flags timeout; timeout 30s }
//	    set open  { type inet_service }
//	    chain untracked { type filter hook prerouting priority raw;        # between engines nothing is remembered
//	        ip saddr RANGE ip daddr RANGE ip daddr != GATEWAY notrack }
//	    # In a linked hub, with OWN for the address of the session's process:
//	    #   untracked begins with: iif host ip saddr != OWN drop; iif host ip ttl != 255 drop
//	    #     and its rule has also: ip saddr != OWN ip daddr != OWN
//	    #   chain process { type nat hook prerouting priority dstnat; }    # filled by ServeProcess
//	    #   forward begins with: oif host ct state established,related accept; oif host reject
//	    #   input has before its third rule: iif host udp reject
//	    chain outbound { type nat hook prerouting priority dstnat; }       # filled by ServeOutbound
//	    chain forward { type filter hook forward priority filter; policy drop;
//	        tcp flags & (fin|syn|rst|ack) == (rst|ack) tcp sequence 0 ip saddr . ip daddr @young counter drop
//	        ip saddr RANGE ip daddr RANGE accept
//	        reject }
//	    chain input { type filter hook input priority filter; policy drop;
//	        iif lo accept
//	        ct state established,related accept
//	        ip daddr GATEWAY udp dport 53 accept
//	        ip daddr GATEWAY tcp dport @open accept
//	        reject }
//	}
//
// Senders need no rule: with strict reverse path filtering the kernel drops what does not come from the engine that has
// the address. To the outside there is no route, so that everything but redirected TCP fails at once, as unreachable.

const (
	youngFor  = 30 * time.Second
	saddr     = 12 // offsets in an IPv4 header
	daddr     = 16
	ttl       = 8
	dport     = 2 // offsets in a TCP or UDP header
	sequence  = 4
	tcpFlags  = 13
	finSynRST = 0x07
	rst       = 0x04
	ack       = 0x10
)

var (
	table    = &nftables.Table{Name: "muster", Family: nftables.TableFamilyIPv4}
	outChain = &nftables.Chain{Name: "outbound", Table: table}
	ownChain = &nftables.Chain{Name: "process", Table: table}
)

// The sets carry numbers of our own: the library would take them from a counter that it does not guard.

func youngSet() *nftables.Set {
	return &nftables.Set{
		Table: table, ID: 1, Name: "young", HasTimeout: true, Timeout: youngFor, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr),
	}
}

func openSet() *nftables.Set {
	return &nftables.Set{Table: table, ID: 2, Name: "open", KeyType: nftables.TypeInetService}
}

// transaction sends what fn collects to the kernel as one change: all or nothing.
func (h *Hub) transaction(fn func(c *nftables.Conn) error) error {
	return netns.Do(h.ns, func() error { return transactionHere(fn) })
}

func transactionHere(fn func(c *nftables.Conn) error) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	if err := fn(c); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change the network's rules: %w", err)
	}
	return nil
}

// Young makes refusals wait: for 30 s, when master refuses a connection of one of the workers because nobody listens yet,
// the refusal is dropped, and the worker's kernel tries again after a second. Other pairs are not touched. It is one
// change for any number of workers.
func (h *Hub) Young(master netip.Addr, workers []netip.Addr) error {
	if len(workers) == 0 {
		return nil
	}
	const perMessage = 1000 // a netlink attribute holds 64 KB, which is some 1,600 elements
	return h.transaction(func(c *nftables.Conn) error {
		var elements []nftables.SetElement
		for i, w := range workers {
			elements = append(elements, nftables.SetElement{Key: append(master.AsSlice(), w.AsSlice()...), Timeout: youngFor})
			if len(elements) == perMessage || i == len(workers)-1 {
				if err := c.SetAddElements(youngSet(), elements); err != nil {
					return err
				}
				elements = nil
			}
		}
		return nil
	})
}

// openPort lets engines reach a TCP port of the gateway, or ends that.
func (h *Hub) openPort(port uint16, open bool) error {
	return h.transaction(func(c *nftables.Conn) error {
		element := []nftables.SetElement{{Key: binaryutil.BigEndian.PutUint16(port)}}
		if open {
			return c.SetAddElements(openSet(), element)
		}
		return c.SetDeleteElements(openSet(), element)
	})
}

// redirect sends TCP for the outside to a port of the gateway, and not to an earlier one. What no host should be asked for stays
// unreachable: "this" network, loopback, link-local addresses (cloud metadata is 169.254.169.254), multicast and reserved,
// and what else hands out credentials.
func (h *Hub) redirect(port uint16) error {
	return h.transaction(func(c *nftables.Conn) error {
		c.FlushChain(outChain)
		exprs := join(protocol(unix.IPPROTO_TCP), in(saddr, h.prefix), notIn(daddr, h.prefix))
		for _, never := range slices.Concat(notRoutable, notForEngines) {
			exprs = append(exprs, notIn(daddr, never)...)
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: outChain, Exprs: append(exprs, h.toGateway(port)...)})
		return nil
	})
}

// redirectOwn sends what engines open to the session's process to a port of the gateway, and not to an earlier one.
func (h *Hub) redirectOwn(port uint16) error {
	return h.transaction(func(c *nftables.Conn) error {
		c.FlushChain(ownChain)
		own := netip.PrefixFrom(h.own, 32)
		exprs := join(protocol(unix.IPPROTO_TCP), in(saddr, h.prefix), notIn(saddr, own), in(daddr, own))
		c.AddRule(&nftables.Rule{Table: table, Chain: ownChain, Exprs: append(exprs, h.toGateway(port)...)})
		return nil
	})
}

// toGateway changes the destination to a port of the gateway.
func (h *Hub) toGateway(port uint16) []expr.Any {
	gw := h.gateway.As4()
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: gw[:]},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	}
}

// checkRules tells whether the calling thread's namespace is a hub.
func (h *Hub) checkRules() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	if _, err := c.ListTableOfFamily(table.Name, table.Family); err != nil {
		return &engine.Error{Kind: engine.NotFound, Message: "this is no session's network", Err: err}
	}
	return nil
}

// addRules makes the rules in the calling thread's namespace.
func (h *Hub) addRules() error {
	return transactionHere(func(c *nftables.Conn) error {
		drop, accept := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
		c.AddTable(table)
		for _, set := range []*nftables.Set{youngSet(), openSet()} {
			if err := c.AddSet(set, nil); err != nil {
				return err
			}
		}
		chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, at *nftables.ChainPriority,
			policy nftables.ChainPolicy, rules ...[]expr.Any) {
			ch := c.AddChain(&nftables.Chain{Name: name, Table: table, Type: kind, Hooknum: hook, Priority: at, Policy: &policy})
			for _, r := range rules {
				c.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: r})
			}
		}
		var host hostRules
		if h.own.IsValid() {
			host = h.hostRules()
			chain(ownChain.Name, nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, accept)
		}
		gateway := netip.PrefixFrom(h.gateway, 32)
		between := join(in(saddr, h.prefix), in(daddr, h.prefix))
		chain("untracked", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, accept,
			append(host.arrive, join(between, notIn(daddr, gateway), host.tracked, []expr.Any{&expr.Notrack{}}))...)
		chain(outChain.Name, nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, accept)
		chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter, drop,
			append(host.forward, youngRefusal(), join(between, verdict(expr.VerdictAccept)), rejectTCP(), rejectOther())...)
		chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter, drop, slices.Concat([][]expr.Any{
			join(fromLink("lo"), verdict(expr.VerdictAccept)),
			join(known(), verdict(expr.VerdictAccept)),
		}, host.input, [][]expr.Any{
			join(in(daddr, gateway), protocol(unix.IPPROTO_UDP), port(53), verdict(expr.VerdictAccept)),
			join(in(daddr, gateway), protocol(unix.IPPROTO_TCP), openPorts(), verdict(expr.VerdictAccept)),
			rejectTCP(), rejectOther(),
		})...)
		return nil
	})
}

// youngRefusal drops what answers a SYN to a closed port: RST and ACK with sequence number 0, which no reset of an
// established connection has.
func youngRefusal() []expr.Any {
	return join(protocol(unix.IPPROTO_TCP), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{finSynRST | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{rst | ack}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: sequence, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0, 0, 0}},
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: saddr, Len: 4},
		&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseNetworkHeader, Offset: daddr, Len: 4},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetID: youngSet().ID, SetName: youngSet().Name},
		&expr.Counter{}, // tells a curious person with nft, and the tests, that it happens
	}, verdict(expr.VerdictDrop))
}
