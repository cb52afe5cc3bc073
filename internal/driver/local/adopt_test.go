package local

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"

	"muster/engine"
	"muster/internal/driver"
)

// The init of an adopted engine may have ended, and its number be another process's, before its network was opened: then nothing is
// served in that one's network, and nobody is led there.
func TestAdoptedEngineWhoseNumberIsAnothers(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		if r.name == Plain {
			t.Skip("capability OwnAddress: engines have no networks of their own")
		}
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		here := netip.MustParseAddrPort(free.Addr().String())
		w := newWatched(t)
		w.spec.Inside = &driver.Inside{Port: int(here.Port()), Serve: func(l net.Listener) {
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}}
		if w.s, err = d.Open(context.Background(), w.spec); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.end)
		s, id := w.s.(*session), engine.NewID()
		addrs, err := s.Reserve(1)
		if err != nil {
			t.Fatal(err)
		}
		stranger := member{address: addrs[0], pid: os.Getpid(), adopted: true}
		s.mu.Lock()
		s.engines[id] = stranger
		s.mu.Unlock()
		if c, err := s.Dial(t.Context(), id, int(here.Port())); engine.KindOf(err) != engine.NotFound {
			t.Errorf("dialled into the stranger's network: %v, %v", c, err)
		}
		free.Close()
		s.reopen(id, stranger)
		if c, err := net.Dial("tcp", here.String()); err == nil {
			c.Close()
			t.Error("the session's server answers in the stranger's network")
		}
		s.mu.Lock()
		delete(s.engines, id)
		s.mu.Unlock()
	})
}
