package hub

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// FuzzListening: a line that the kernel writes is read as it was meant, and no other line makes a socket of nothing.
func FuzzListening(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, uint16(8090), uint64(77), "")
	f.Add([]byte("0123456789abcdef"), uint16(0), uint64(1<<63), "  0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1")
	f.Add([]byte{}, uint16(1), uint64(1), "0: 0100:1F90 0 0A 1 2 3 4 5 6")
	f.Fuzz(func(t *testing.T, ip []byte, port uint16, inode uint64, anything string) {
		if _, s, ok := parseListening(anything); ok && !s.addr.IsValid() {
			t.Fatalf("%q is read as %+v", anything, s)
		}
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			return
		}
		var words strings.Builder
		for b := ip; len(b) > 0; b = b[4:] {
			fmt.Fprintf(&words, "%08X", binary.NativeEndian.Uint32(b))
		}
		line := fmt.Sprintf("  12: %s:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 %d 1 0 100 0 0 10 0", words.String(), port, inode)
		at, s, ok := parseListening(line)
		if !ok || at != port || s.addr != a.Unmap() || s.inode != inode {
			t.Fatalf("%q is read as port %d, %+v, %v", line, at, s, ok)
		}
		if _, _, ok := parseListening(strings.Replace(line, " 0A ", " 01 ", 1)); ok {
			t.Fatalf("%q does not listen", line)
		}
		for _, to := range targets(netip.MustParseAddr("100.100.0.2"), []socket{s, {s.addr, s.inode + 1}}, map[uint64]bool{s.inode: true}) {
			t.Fatalf("%v is shared with a stranger, and taken for ours", to)
		}
	})
}
