package hub

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"muster/engine"
)

// pool gives out the addresses of a range: all but the first (the network), the second (the gateway) and the last
// (broadcast, by custom). It goes round, so that an address rests as long as possible before it comes again.
type pool struct {
	prefix netip.Prefix
	first  uint32
	last   uint32

	mu   sync.Mutex
	next uint32
	used map[uint32]bool
}

func newPool(prefix netip.Prefix) *pool {
	base := number(prefix.Addr())
	size := uint32(1) << (32 - prefix.Bits())
	return &pool{prefix: prefix, first: base + 2, last: base + size - 2, next: base + 2, used: map[uint32]bool{}}
}

func (p *pool) size() int { return int(p.last-p.first) + 1 }

func (p *pool) reserve(n int) ([]netip.Addr, error) {
	if n < 0 {
		return nil, engine.Errorf(engine.Invalid, "cannot reserve %d addresses", n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if free := p.size() - len(p.used); n > free {
		return nil, engine.Errorf(engine.NoCapacity, "the range %s has no %d free addresses: %d of %d are in use",
			p.prefix, n, len(p.used), p.size()).WithHint("stop workers, or choose a larger range with --network")
	}
	addrs := make([]netip.Addr, 0, n)
	for len(addrs) < n {
		if !p.used[p.next] {
			p.used[p.next] = true
			addrs = append(addrs, address(p.next))
		}
		p.advance(p.next)
	}
	return addrs, nil
}

// advance lets the search go on behind a.
func (p *pool) advance(a uint32) {
	p.next = a + 1
	if a >= p.last {
		p.next = p.first
	}
}

func (p *pool) release(addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range addrs {
		if a.Is4() {
			delete(p.used, number(a))
		}
	}
}

// claim makes a used, if it is an engine's address of this range, and lets the search go on behind the highest one.
func (p *pool) claim(a netip.Addr) bool {
	n := number(a)
	if n < p.first || n > p.last {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[n] = true
	if n >= p.next {
		p.advance(n)
	}
	return true
}

func (p *pool) has(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return a.Is4() && p.used[number(a)]
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
