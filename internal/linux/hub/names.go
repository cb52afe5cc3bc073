package hub

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"muster/engine"
)

// names are the hostnames of a session's engines.
type names struct {
	prefix netip.Prefix

	mu     sync.Mutex
	byName map[string]netip.Addr
	byAddr map[netip.Addr]string // the name that was given last
}

func newNames(prefix netip.Prefix) *names {
	return &names{prefix: prefix, byName: map[string]netip.Addr{}, byAddr: map[netip.Addr]string{}}
}

// Name makes name resolve to addr for the session's engines, and addr to name. A name that is there already gets the new
// address.
func (h *Hub) Name(name string, addr netip.Addr) error {
	name, err := checkName(name)
	if err != nil {
		return err
	}
	if !h.prefix.Contains(addr) {
		return engine.Errorf(engine.Invalid, "name %s: %s is no address in %s", name, addr, h.prefix)
	}
	h.names.mu.Lock()
	defer h.names.mu.Unlock()
	h.names.byName[name] = addr
	h.names.byAddr[addr] = name
	return nil
}

func (n *names) forget(addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	gone := map[netip.Addr]bool{}
	for _, a := range addrs {
		gone[a] = true
		delete(n.byAddr, a)
	}
	for name, a := range n.byName {
		if gone[a] {
			delete(n.byName, name)
		}
	}
}

// answer answers a question about the session's own names and addresses, and about the engine itself; nil if it is about something else.
func (n *names) answer(query []byte, q question) []byte {
	if q.class != classIN || !q.opcodeZero {
		return nil
	}
	if q.name == "localhost" || strings.HasSuffix(q.name, ".localhost") { // RFC 6761, section 6.3
		if q.kind != typeA && q.kind != typeAny {
			return reply(query, q, 0)
		}
		return answer(query, q, typeA, []byte{127, 0, 0, 1})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr, ok := n.byName[q.name]; ok {
		if q.kind != typeA && q.kind != typeAny {
			return reply(query, q, 0) // the name is there, but has no such record
		}
		return answer(query, q, typeA, addr.AsSlice())
	}
	addr, ok := reverse(q.name)
	if !ok || !n.prefix.Contains(addr) {
		return nil
	}
	name, ok := n.byAddr[addr]
	switch {
	case !ok:
		return reply(query, q, codeNoDomain) // the host's resolvers cannot know better
	case q.kind != typePTR && q.kind != typeAny:
		return reply(query, q, 0)
	default:
		return answer(query, q, typePTR, encodeName(name))
	}
}

// reverse reads the address of a name such as 7.0.100.100.in-addr.arpa.
func reverse(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa")
	parts := strings.Split(digits, ".")
	if !ok || len(parts) != 4 {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(fmt.Sprintf("%s.%s.%s.%s", parts[3], parts[2], parts[1], parts[0]))
	return addr, err == nil && addr.Is4()
}

// checkName returns the name as it is stored: lower case, without a final dot.
func checkName(name string) (string, error) {
	clean := strings.ToLower(strings.TrimSuffix(name, "."))
	bad := engine.Errorf(engine.Invalid, "%q is no hostname", name)
	if len(clean) == 0 || len(clean) > 253 {
		return "", bad
	}
	for label := range strings.SplitSeq(clean, ".") {
		if len(label) == 0 || len(label) > 63 {
			return "", bad
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", bad
			}
		}
	}
	return clean, nil
}
