package manager_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/api"
	"muster/engine"
)

// A session with the lease "connection" lives as long as its creator is connected, and a little longer.
func TestLeaseOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		over := func(id engine.ID) bool {
			t.Helper()
			synctest.Wait()
			s, err := b.Session(id)
			if err != nil {
				t.Fatal(err)
			}
			return s.Ended
		}
		hold := func(id engine.ID) (release func()) {
			t.Helper()
			release, err := b.Hold(id)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		free := b.session()
		hold(free)() // a session without a lease is not touched by that
		never := b.sessionOf(api.CreateSession{Code: "hang", Lease: "connection"})
		id := b.sessionOf(api.CreateSession{Code: "hang", Lease: "connection"})
		ws := b.launch(id, worker(1, "hang"))
		b.awaitRunning(id, ws[0].ID)
		time.Sleep(9 * time.Second)
		first := hold(id)
		time.Sleep(time.Hour)
		if !over(never) {
			t.Error("a session to which nobody ever connected goes on")
		}
		second := hold(id)
		first()
		first() // harmless
		time.Sleep(time.Hour)
		second()
		time.Sleep(9 * time.Second)
		third := hold(id)
		third()
		time.Sleep(9 * time.Second)
		if over(id) {
			t.Fatal("it ended although its creator was connected, or had just been")
		}
		time.Sleep(2 * time.Second)
		b.ended(id)
		if !over(id) || over(free) {
			t.Errorf("ended: %v, want true; the one without a lease: %v, want false", over(id), over(free))
		}
		if w := b.engine(string(id)); !strings.Contains(text(w.K8s.Message), "the loss of its owner's connection") {
			t.Errorf("its own engine: %q", text(w.K8s.Message))
		}
		if w := b.engine(ws[0].ID); w.Status != "stopped" {
			t.Errorf("its worker is %s", w.Status)
		}
	})
}
