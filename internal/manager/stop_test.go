package manager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

func TestStopGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.session()
		ws := b.launch(id, worker(2, "ignore-term\nhang"))
		b.awaitRunning(id)
		synctest.Wait() // they have ignored the signal before it comes
		start := time.Now()
		for range 2 { // idempotent
			if r := b.stop(id, ws[0].ID, "nonsense", ws[1].ID, ws[0].ID); r[0].Status != 204 || r[1].Status != 404 || r[2].Status != 204 || r[3].Status != 204 {
				t.Errorf("results %+v", r)
			}
		}
		if w := b.engine(ws[0].ID); w.Status != "stopping" || w.StoppingAt == nil {
			t.Errorf("%+v", w)
		}
		a := b.awaitEnd(id)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("killed after %v, want 2 s", d)
		}
		for _, w := range a.Failures {
			if w.Status != "stopped" || w.Reason != "stopped" || w.Evidence.By != "session" || w.Evidence.Signal != 9 {
				t.Errorf("%+v", w)
			}
		}
		if r := b.stop(id, ws[0].ID); r[0].Status != 204 {
			t.Errorf("stop after its end: %+v", r)
		}
		if r, _ := b.Stop(context.Background(), id, api.Stop{All: true}, "session"); len(r.Results) != 0 {
			t.Errorf("nothing lives: %+v", r)
		}
	})
}

// A stop that comes while the driver is just taking the worker is not lost.
func TestStopWhileItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(_ *manager.Config, f *fake.Options) {
			f.Delay = func(step string, s driver.Spec) time.Duration {
				if step == fake.StepAccept && s.Role == engine.RoleWorker {
					return 10 * time.Second
				}
				return 0
			}
		})
		id := b.session()
		ws := b.launch(id, worker(1, "hang"))
		synctest.Wait()
		if w := b.engine(ws[0].ID); w.Status != "starting" {
			t.Fatalf("%+v", w)
		}
		b.stop(id, ws[0].ID)
		if a := b.awaitEnd(id); len(a.Failures) != 1 || a.Failures[0].Status != "stopped" || a.Failures[0].Evidence.By != "session" {
			t.Errorf("%+v", a)
		}
	})
}

// A stop that was answered holds, also of a worker that the driver was just taking when the server was killed.
func TestStopWhileItStartsOutlivesTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, func(_ *manager.Config, f *fake.Options) {
			f.Delay = func(step string, s driver.Spec) time.Duration {
				if step == fake.StepAccept && s.Role == engine.RoleWorker {
					return 10 * time.Second
				}
				return 0
			}
		})
		id := l.session()
		w := l.launch(id, worker(1, "hang"))[0]
		synctest.Wait()
		l.stop(id, w.ID)
		l.restart()
		if a := l.awaitEnd(id, w.ID); len(a.Failures) != 1 || a.Failures[0].Status != "stopped" || a.Failures[0].Evidence.By != "session" {
			t.Errorf("%+v", a)
		}
		// A server that lets go of it meanwhile has not stopped it, and says so.
		w = l.launch(id, worker(1, "hang"))[0]
		synctest.Wait()
		stopped := make(chan error)
		go func() {
			_, err := l.Stop(t.Context(), id, api.Stop{IDs: []string{w.ID}}, "session")
			stopped <- err
		}()
		synctest.Wait()
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-stopped; engine.KindOf(err) != engine.Unavailable {
			t.Errorf("answered: %v", err)
		}
		l.restart()
		l.awaitRunning(id, w.ID)
	})
}

// A worker whose reply is not written yet can be stopped, and never starts.
func TestStopBeforeRelease(t *testing.T) {
	b := newBench(t)
	id := b.session()
	reply, release, err := b.Launch(t.Context(), id, worker(2, "print never"))
	if err != nil {
		t.Fatal(err)
	}
	b.stop(id, ids(reply.Workers)...)
	release()
	all, _ := b.Workers(id, "")
	for _, w := range all.Workers {
		if w.Status != "stopped" || w.StartingAt != nil {
			t.Errorf("%+v", w)
		}
	}
	if n := b.driver.World().Count(); n["addresses"] != 1 || n["engines"] != 1 {
		t.Errorf("left: %v", n)
	}
}

// Observations that are lost, doubled or in the wrong order move no status back, and the session's end settles the rest.
func TestUnreliableObservations(t *testing.T) {
	for name, deliver := range map[string]func(driver.Observation) []driver.Observation{
		"doubled": func(o driver.Observation) []driver.Observation { return []driver.Observation{o, o} },
		"lost": func(o driver.Observation) []driver.Observation {
			if o.Kind == driver.Ended {
				return []driver.Observation{o}
			}
			return nil
		},
		"late": func() func(driver.Observation) []driver.Observation {
			var kept []driver.Observation
			return func(o driver.Observation) []driver.Observation {
				if o.Kind == driver.Started {
					kept = append(kept, o)
					return nil
				}
				return append([]driver.Observation{o}, kept...)
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(_ *manager.Config, f *fake.Options) { f.Deliver = deliver })
			id := b.session()
			b.launch(id, worker(3, "exit 0"))
			if name != "lost" {
				if a := b.awaitEnd(id); len(a.Workers) != 3 {
					t.Errorf("%+v", a)
				}
			}
			if err := b.EndSession(t.Context(), id, "owner"); err != nil {
				t.Fatal(err)
			}
			all, _ := b.Workers(id, "")
			for _, w := range all.Workers {
				if !engine.Status(w.Status).Final() {
					t.Errorf("%+v", w)
				}
			}
		})
	}
}
