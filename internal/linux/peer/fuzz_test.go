package peer

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzSockets: whatever other lines the list of sockets has, who owns a connection is what its own line says.
func FuzzSockets(f *testing.F) {
	f.Add("  sl  local_address rem_address\n", []byte{127, 0, 0, 1}, uint16(80), uint32(1000))
	f.Add("x y z 01 0 0 0 77\n", []byte("0123456789abcdef"), uint16(0), uint32(0))
	f.Fuzz(func(t *testing.T, before string, ip []byte, port uint16, uid uint32) {
		a, ok := netip.AddrFromSlice(ip)
		if !ok || len(before) > 1000 || uid > 1<<31-1 {
			return
		}
		theirs := inProc(a, port) + " " + inProc(a, port) + " " + established
		if strings.Contains(strings.Join(strings.Fields(before), " "), theirs) {
			return
		}
		path := filepath.Join(t.TempDir(), "tcp")
		text := before + fmt.Sprintf("\n 0: %s 00000000:00000000 00:00000000 00000000 %d 0 1\n", theirs, uid)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := userOf(path, theirs); err != nil || got != int(uid) {
			t.Fatalf("%d, %v; want %d of %q", got, err, uid, text)
		}
	})
}

// FuzzBeginning: a process that chooses its name does not choose when it began.
func FuzzBeginning(f *testing.F) {
	f.Add("cat", uint32(77), []byte("1 (x) S"))
	f.Add(") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21", uint32(5), []byte(""))
	f.Add("(\n", uint32(1<<32-1), []byte("1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99999999999999999"))
	f.Fuzz(func(t *testing.T, name string, ticks uint32, anything []byte) {
		stat := fmt.Sprintf("7 (%s) S%s %d 0 0\n", name, strings.Repeat(" 1", 18), ticks)
		if at, err := beginning([]byte(stat)); err != nil || at != time.Duration(ticks)*tick {
			t.Fatalf("%v, %v of %q", at, err, stat)
		}
		if at, err := beginning(anything); err == nil && at < 0 {
			t.Fatalf("%v of %q", at, anything)
		}
	})
}
