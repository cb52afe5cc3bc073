package manager_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

// beforeRecover does something before a place is recovered.
type beforeRecover struct {
	driver.Driver
	do func(engine.ID)
}

func (d beforeRecover) Recover(ctx context.Context, spec driver.SessionSpec, h driver.Handle) (driver.Session, error) {
	d.do(h.Session)
	return d.Driver.Recover(ctx, spec, h)
}

// As long as it is not known what all sessions hold nobody is given room.
func TestNoRoomIsGivenWhileSessionsAreAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t) // room for three gigabytes
		first := l.session()
		time.Sleep(time.Second) // sessions are adopted in the order of their creation
		second := l.session()
		two := worker(1, "hang")
		two.Memory = 2
		runs := l.launch(second, two)[0]
		l.awaitRunning(second, runs.ID)
		var early api.Worker
		l.wrap = func(d driver.Driver) driver.Driver {
			return beforeRecover{d, func(id engine.ID) {
				if id == second {
					early = l.launch(first, two)[0]
				}
			}}
		}
		l.restart()
		synctest.Wait()
		if w := l.engine(early.ID); w.Status != "scheduling" {
			t.Errorf("launched while the other session was adopted: %+v", w)
		}
		l.stop(second, runs.ID)
		l.awaitRunning(first, early.ID)
	})
}

// A creator that is on another machine has its time to come back from when the server can be reached, however long it took to adopt
// all sessions.
func TestLeasesBeginWhenAllIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		id := l.sessionOf(api.CreateSession{Code: "hang", Lease: "connection"})
		time.Sleep(time.Second)
		slow := l.session()
		l.wrap = func(d driver.Driver) driver.Driver {
			return beforeRecover{d, func(id engine.ID) {
				if id == slow {
					time.Sleep(20 * time.Second)
				}
			}}
		}
		l.restart()
		time.Sleep(9 * time.Second)
		release, err := l.Hold(id)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if s, err := l.Session(id); err != nil || s.Ended {
			t.Errorf("%+v, %v", s, err)
		}
		release()
		l.ended(id)
	})
}

// What was to be tried again when its session was lost is not waited for.
func TestNothingIsTriedAgainInALostSession(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	var block atomic.Bool
	l := newLives(t, func(_ *manager.Config, f *fake.Options) {
		f.Fail = func(step string, _ driver.Spec) error {
			if step == fake.StepReserve && block.CompareAndSwap(true, false) {
				close(reached)
				<-goOn
			}
			return nil
		}
	})
	id := l.session()
	other := l.launch(id, worker(1, "hang"))[0]
	w := l.launch(id, tried(1, 3, "hang"))[0]
	l.awaitRunning(id, w.ID, other.ID)
	block.Store(true)
	place, _ := l.driver.Place(id)
	if err := place.Signal(t.Context(), engine.ID(w.ID), 9); err != nil {
		t.Fatal(err)
	}
	<-reached
	l.stop(id, other.ID) // records what is not yet
	l.driver.Close()
	l.config.Records.Close()
	close(goOn)
	l.kill()
	l.fake.World.Vanish(id)
	l.start()
	for range 2 {
		if a := l.awaitEnd(id, w.ID); len(a.Failures) != 1 || a.Failures[0].Reason != "signal" {
			t.Errorf("%+v", a)
		}
		l.restart()
	}
}

// A clock that is set back while no server is there makes no pause longer.
func TestPausesAndAClockThatIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Int64
		l := newLives(t, func(c *manager.Config, _ *fake.Options) {
			c.Now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		})
		id := l.session()
		w := l.launch(id, tried(1, 9, "exit 1"))[0]
		time.Sleep(2 * time.Second) // attempts after 0, 0.1, 0.3, 0.7, 1.5 s
		l.kill()
		back.Store(int64(time.Hour))
		l.start()
		start := time.Now()
		l.awaitRunning(id, w.ID)
		if d := time.Since(start); d > 1600*time.Millisecond {
			t.Errorf("a pause of 1.6 s took %v", d)
		}
	})
}

// Of what cannot be looked up nobody may say that it never began.
func TestLostSessionsWhoseConsoleCannotBeRead(t *testing.T) {
	l := newLives(t)
	id := l.session()
	w := l.launch(id, worker(1, "print here\nhang"))[0]
	l.awaitRunning(id, w.ID)
	l.kill()
	l.fake.World.Vanish(id)
	order := filepath.Join(l.config.StateDir, "sessions", string(id), "console", "order")
	if err := os.Remove(order); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(order, 0o700); err != nil {
		t.Fatal(err)
	}
	l.start()
	if got := l.engine(w.ID); got.Reason != string(engine.ReasonKeeperLost) {
		t.Errorf("%+v", got)
	}
}

// silent does not answer of one session, as a keeper that somebody has stopped.
type silent struct {
	driver.Driver
	session engine.ID
}

func (d silent) Recover(ctx context.Context, spec driver.SessionSpec, h driver.Handle) (driver.Session, error) {
	if h.Session == d.session {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return d.Driver.Recover(ctx, spec, h)
}

// A session whose keeper does not answer keeps no server from starting, and is the next one's to adopt.
func TestSessionsThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		mute := l.session()
		w := l.launch(mute, worker(1, "hang"))[0]
		l.awaitRunning(mute, w.ID)
		time.Sleep(time.Second)
		other := l.session()
		orphan := engine.NewID()
		place, err := l.driver.Open(t.Context(), driver.SessionSpec{
			ID: orphan, ConsoleDir: filepath.Join(l.config.StateDir, "sessions", string(orphan), "console"), Observe: func(driver.Observation) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		l.wrap = func(d driver.Driver) driver.Driver { return silent{silent{d, mute}, orphan} }
		if found := l.restart(); found.Adopted != 1 || len(found.Stuck) != 1 || !strings.Contains(found.Stuck[0], string(mute)) ||
			len(found.Orphans) != 1 || !strings.Contains(found.Orphans[0], "cannot be ended") {
			t.Errorf("%+v", found)
		}
		if err := place.End(t.Context(), 0, "the test"); err != nil {
			t.Fatal(err)
		}
		if s, err := l.Session(other); err != nil || s.Ended {
			t.Errorf("%+v, %v", s, err)
		}
		l.wrap = nil
		if found := l.restart(); found.Adopted != 2 {
			t.Errorf("%+v", found)
		}
		if got := l.engine(w.ID); got.Status != "running" {
			t.Errorf("%+v", got)
		}
	})
}
