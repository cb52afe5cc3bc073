package manager_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

// A later server goes on trying: what failed while nobody looked, what was in a pause, what ran; and knows who is whose attempt.
func TestRetriesOutliveTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		id := l.session()
		req := tried(1, 3, "print $MARK\nsleep 10s\nexit 1")
		req.Env, req.Group, req.TimeLimit = map[string]string{"MARK": "canary"}, "g", 60
		runs := l.launch(id, req)[0]
		paused := l.launch(id, tried(1, 9, "exit 1"))[0]
		l.awaitRunning(id, runs.ID)
		time.Sleep(2 * time.Second) // attempts of the second one that fail: after 0, 0.1, 0.3, 0.7, 1.5 s
		l.restart()
		w := l.engine(paused.ID)
		for n := 1; w.RetriedAs != ""; n++ {
			if w.Attempt != n || n > 1 && w.RetryOf != paused.ID || w.Status != "failed" {
				t.Errorf("attempt %d: %+v", n, w)
			}
			w = l.engine(w.RetriedAs)
		}
		if w.Attempt != 6 || w.Status != "scheduling" || text(w.K8s.Message) != "waits 1.6 s before attempt 6 of 10" {
			t.Errorf("it was in a pause: %+v, %s", w, text(w.K8s.Message))
		}
		start := time.Now()
		l.awaitRunning(id, paused.ID)
		if d := time.Since(start); d != 1100*time.Millisecond {
			t.Errorf("the rest of the pause took %v, want 1.1 s", d)
		}
		l.stop(id, paused.ID)
		l.kill()
		time.Sleep(20 * time.Second) // the first one fails meanwhile
		l.start()
		time.Sleep(time.Minute)
		a := l.await(id, api.Await{Group: "g", Completion: true})
		if len(a.Workers) != 0 || len(a.Failures) != 1 {
			t.Fatalf("%+v", a)
		}
		last := a.Failures[0]
		if last.Attempt != 4 || last.RetryOf != runs.ID || last.Group != "g" || last.TimeLimit != 60 || last.Retries != 3 {
			t.Errorf("%+v", last)
		}
		if got := l.output(id, last.ID, console.Stdout); got != "canary\n" {
			t.Errorf("its last attempt printed %q", got)
		}
		if a := l.awaitEnd(id, paused.ID); len(a.Failures) != 1 || a.Failures[0].RetriedAs != "" {
			t.Errorf("stopped before: %+v", a)
		}
	})
}

// What a chain came to before its session ended is known afterwards, and nobody waits for another attempt.
func TestRetriesOfEndedSessions(t *testing.T) {
	l := newLives(t)
	id := l.session()
	w := l.launch(id, tried(1, 1, "exit 1"))[0]
	l.awaitEnd(id, w.ID)
	lives := l.launch(id, tried(1, 1000, "exit 1"))[0]
	l.awaitRunning(id, lives.ID)
	for range 2 {
		if a := l.awaitEnd(id, w.ID); len(a.Failures) != 1 || a.Failures[0].Attempt != 2 || a.Failures[0].RetryOf != w.ID {
			t.Errorf("%+v", a)
		}
		l.kill()
		if place, there := l.driver.Place(id); there {
			if err := place.End(t.Context(), 0, "somebody"); err != nil {
				t.Fatal(err)
			}
		}
		l.start()
		if a := l.awaitEnd(id, lives.ID); len(a.Failures) != 1 {
			t.Errorf("%+v", a)
		}
	}
	if _, works := l.Holds(id); works > 1 {
		t.Errorf("%d works are held", works)
	}
}

// Work that has ended can be started again by a later server, and what was started so is known to the next.
func TestRestartsOutliveTheServer(t *testing.T) {
	l := newLives(t)
	id := l.session()
	req := worker(1, "print $MARK\nexit 0")
	req.Env, req.Name = map[string]string{"MARK": "canary"}, "w"
	old := l.launch(id, req)[0]
	l.awaitEnd(id, old.ID)
	l.restart()
	canaries(t, l.config.StateDir, "canary=")
	again := l.bench.restart(id, old.ID)[0]
	if again.RestartOf != old.ID || again.Name != "w" {
		t.Errorf("%+v", again)
	}
	l.awaitEnd(id, again.ID)
	if got := l.output(id, again.ID, console.Stdout); got != "canary\n" {
		t.Errorf("it printed %q", got)
	}
	l.restart()
	if w := l.engine(again.ID); w.RestartOf != old.ID || w.Name != "w" || w.Status != "succeeded" || w.IPAddress == "unknown" {
		t.Errorf("%+v", w)
	}
	third := l.bench.restart(id, again.ID)[0]
	l.awaitEnd(id, third.ID)
	if got := l.output(id, third.ID, console.Stdout); got != "canary\n" {
		t.Errorf("the third printed %q", got)
	}
}

// A stop that comes just when an attempt has failed is known to later servers, too.
func TestStopBetweenAttemptsOutlivesTheServer(t *testing.T) {
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
	w := l.launch(id, tried(1, 3, "hang"))[0]
	l.awaitRunning(id, w.ID)
	block.Store(true)
	place, _ := l.driver.Place(id)
	if err := place.Signal(t.Context(), engine.ID(w.ID), 9); err != nil {
		t.Fatal(err)
	}
	<-reached
	l.stop(id, w.ID)
	close(goOn)
	for range 2 {
		if a := l.awaitEnd(id, w.ID); len(a.Failures) != 1 || a.Failures[0].ID != w.ID || a.Failures[0].Reason != "signal" {
			t.Errorf("%+v", a)
		}
		l.restart()
	}
	if s, _ := l.Session(id); s.Workers != 1 {
		t.Errorf("%d workers", s.Workers)
	}
}

// What waits for room goes on waiting in the order in which it asked for it: an attempt asks when its pause is over.
func TestTheQueueOutlivesTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t) // room for three gigabytes
		id := l.session()
		large := func(req api.LaunchWorkers) api.Worker {
			req.Memory = 2
			return l.launch(id, req)[0]
		}
		fails := large(tried(1, 1, "sleep 1s\nexit 1"))
		time.Sleep(time.Second + 10*time.Millisecond) // its next attempt is in its pause
		holds := large(worker(1, "sleep 10s\nexit 0"))
		time.Sleep(10 * time.Millisecond)
		before := large(worker(1, "sleep 10s\nexit 0"))
		time.Sleep(time.Second) // now that attempt waits for room
		after := large(worker(1, "hang"))
		again := l.engine(fails.ID).RetriedAs
		l.restart()
		l.awaitEnd(id, holds.ID)
		l.awaitRunning(id, before.ID)
		synctest.Wait()
		if w := l.engine(again); w.Status != "scheduling" || text(w.K8s.Reason) != "Unschedulable" {
			t.Errorf("it asked later, and was served before: %+v", w)
		}
		l.awaitEnd(id, before.ID)
		l.awaitRunning(id, again)
		synctest.Wait()
		if w := l.engine(after.ID); w.Status != "scheduling" {
			t.Errorf("it asked last: %+v", w)
		}
		l.stop(id, again)
		l.awaitRunning(id, after.ID)
	})
}

// An attempt that fails while no server is there is followed by one, not by two.
func TestOneAttemptFollowsEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		id := l.session()
		w := l.launch(id, tried(1, 1, "print began\nsleep 1s\nexit 1"))[0]
		l.awaitRunning(id, w.ID)
		l.kill()
		time.Sleep(2 * time.Second)
		l.start()
		l.awaitEnd(id, w.ID)
		time.Sleep(time.Minute)
		if all := l.Workers(t, id); len(all) != 2 {
			t.Errorf("%d attempts: %+v", len(all), all)
		}
	})
}
