package manager_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
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

// tried is a request for workers that are tried so often.
func tried(n, retries int, code string) api.LaunchWorkers {
	req := worker(n, code)
	req.Retries = retries
	return req
}

// succeedsAt makes the driver fail the first attempts of workers named so, and let the one of that number through.
func succeedsAt(name string, number int32) option {
	var starts atomic.Int32
	return func(_ *manager.Config, f *fake.Options) {
		f.Fail = func(step string, s driver.Spec) error {
			if step == fake.StepSandbox && s.Name == name && starts.Add(1) < number {
				return errors.New("injected")
			}
			return nil
		}
	}
}

// Each attempt is an engine of its own, and whoever awaits any of them awaits the last.
func TestRetriedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, succeedsAt("w", 3))
		id := b.session()
		req := tried(1, 5, "print done")
		req.Name = "w"
		start := time.Now()
		first := b.launch(id, req)[0]
		if first.Attempt != 1 || first.Retries != 5 || first.RetryOf != "" || first.RetriedAs != "" {
			t.Errorf("launched: %+v", first)
		}
		var seen []api.AwaitProgress
		result, err := b.Await(t.Context(), id, api.Await{IDs: []string{first.ID}, Completion: true}, func(p api.AwaitProgress) { seen = append(seen, p) })
		if err != nil {
			t.Fatal(err)
		}
		a := result()
		if d := time.Since(start); d != 300*time.Millisecond {
			t.Errorf("two pauses took %v, want 0.1 s and 0.2 s", d)
		}
		if len(a.Workers) != 1 || len(a.Failures) != 0 {
			t.Fatalf("%+v", a)
		}
		last := a.Workers[0]
		if last.ID == first.ID || last.Attempt != 3 || last.RetryOf != first.ID || last.RetriedAs != "" || last.Status != "succeeded" {
			t.Errorf("the last attempt: %+v", last)
		}
		for _, p := range seen {
			if p.Of != 1 {
				t.Errorf("progress %+v: a worker counts once, however often it is tried", seen)
			}
		}
		if !slices.ContainsFunc(seen, func(p api.AwaitProgress) bool { return p.Waiting == "waits 0.2 s before attempt 3 of 6" }) {
			t.Errorf("progress %+v", seen)
		}
		second := b.engine(b.engine(first.ID).RetriedAs)
		if second.Status != "failed" || second.Reason != "launch failed" || second.RetryOf != first.ID || second.RetriedAs != last.ID || second.Attempt != 2 {
			t.Errorf("the second attempt: %+v", second)
		}
		if out := b.output(id, last.ID, 1); out != "done\n" {
			t.Errorf("the last attempt printed %q", out)
		}
		all, _ := b.Workers(id, "")
		if got := ids(all.Workers); !slices.Equal(got, []string{last.ID, second.ID, first.ID}) {
			t.Errorf("list %v", got)
		}
		want := []string{
			fmt.Sprintf("worker w (%s) is tried again in 0.1 s: attempt 2 of 6, as %s", first.ID[:8], second.ID[:8]),
			fmt.Sprintf("worker w (%s) is tried again in 0.2 s: attempt 3 of 6, as %s", second.ID[:8], last.ID[:8]),
		}
		if got := b.messages(id, "retry"); !slices.Equal(got, want) {
			t.Errorf("the console says %q, want %q", got, want)
		}
		for _, ids := range [][]string{nil, {last.ID, second.ID}, {second.ID, first.ID, second.ID}} {
			if a := b.awaitEnd(id, ids...); len(a.Workers) != 1 || a.Workers[0].ID != last.ID || len(a.Failures) != 0 {
				t.Errorf("await %v: %+v", ids, a)
			}
		}
	})
}

// What is tried again, and what is not.
func TestWhatIsRetried(t *testing.T) {
	for code, attempts := range map[string]int{
		"exit 3": 3, "signal 11": 3, "alloc 2000000000": 3, "exit 0": 1,
	} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				id := b.session()
				b.launch(id, tried(1, 2, code))
				a := b.awaitEnd(id)
				all, _ := b.Workers(id, "")
				if len(all.Workers) != attempts || len(a.Workers)+len(a.Failures) != 1 || append(a.Workers, a.Failures...)[0].Attempt != attempts {
					t.Errorf("%d attempts, %+v", len(all.Workers), a)
				}
			})
		})
	}
}

// The pause doubles, and no further than half a minute.
func TestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.session()
		b.launch(id, tried(1, 11, "exit 1"))
		start := time.Now()
		b.Await(context.Background(), id, api.Await{Completion: true}, nil)
		want := 30*time.Second + 30*time.Second // attempts 11 and 12
		for p := 100 * time.Millisecond; p < 30*time.Second; p *= 2 {
			want += p
		}
		if d := time.Since(start); d != want {
			t.Errorf("twelve attempts took %v, want %v", d, want)
		}
	})
}

// Who is stopped is not tried again, at whatever moment, and by whichever of its ids.
func TestStoppedIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.session()
		running := b.launch(id, tried(1, 3, "trap 15 bye\nhang"))[0]
		paused := b.launch(id, tried(1, 3, "exit 1"))[0]
		b.awaitRunning(id, running.ID)
		synctest.Wait()
		next := b.engine(b.engine(paused.ID).RetriedAs)
		if next.Status != "scheduling" || text(next.K8s.Message) != "waits 0.1 s before attempt 2 of 4" {
			t.Errorf("between attempts: %+v", next)
		}
		if r := b.stop(id, running.ID, paused.ID); r[0].Status != 204 || r[1].Status != 204 {
			t.Errorf("%+v", r)
		}
		a := b.awaitEnd(id)
		time.Sleep(time.Hour)
		all, _ := b.Workers(id, "")
		if len(all.Workers) != 3 || len(a.Failures) != 2 || a.Failures[0].Status != "stopped" || a.Failures[1].Status != "stopped" || a.Failures[1].ID != next.ID {
			t.Errorf("%d workers, %+v", len(all.Workers), a)
		}
		if n := b.driver.World().Count(); n["addresses"] != 1 || n["engines"] != 1 {
			t.Errorf("left: %v", n)
		}
	})
}

// A stop that comes when an attempt has just failed, before the next one is entered, ends the chain.
func TestStopBetweenAttempts(t *testing.T) {
	b := newBench(t)
	id := b.session()
	for range 100 {
		w := b.launch(id, tried(1, 1000, "exit 1"))[0]
		b.awaitRunning(id, w.ID)
		b.stop(id, w.ID)
		if a := b.awaitEnd(id, w.ID); len(a.Failures) != 1 || a.Failures[0].RetriedAs != "" {
			t.Fatalf("%+v", a)
		}
	}
}

// The session's end ends all trying.
func TestSessionEndsBetweenAttempts(t *testing.T) {
	b := newBench(t)
	id := b.session()
	b.launch(id, tried(20, 1000, "exit 1"))
	b.awaitRunning(id)
	if err := b.EndSession(t.Context(), id, "owner"); err != nil {
		t.Fatal(err)
	}
	if a := b.awaitEnd(id); len(a.Failures) != 20 {
		t.Errorf("%d failures", len(a.Failures))
	}
	if o, w := b.Holds(id); o+w != 0 {
		t.Errorf("held: %d environments, %d works", o, w)
	}
}

// An attempt stands at the end of the queue for room like any other request.
func TestRetriesWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, capacity(manager.Capacity{MemoryBytes: 1e9, CPU: 4}))
		id := b.session()
		fails := b.launch(id, tried(1, 1, "exit 1"))[0]
		other := b.launch(id, worker(1, "sleep 10s"))[0]
		b.awaitRunning(id, other.ID) // in the pause it has the room
		time.Sleep(time.Second)
		if w := b.engine(b.engine(fails.ID).RetriedAs); w.Status != "scheduling" || text(w.K8s.Message) != "waits for 1 GB memory: 0 GB of 1 GB is free" {
			t.Errorf("%s: %s", w.Status, text(w.K8s.Message))
		}
		if a := b.awaitEnd(id); len(a.Workers) != 1 || len(a.Failures) != 1 || a.Failures[0].Attempt != 2 {
			t.Errorf("%+v", a)
		}
	})
}

// A retry that cannot be entered is told, and the worker has failed.
func TestRetryIsRefused(t *testing.T) {
	var full atomic.Bool
	b := newBench(t, func(_ *manager.Config, f *fake.Options) {
		f.Fail = func(step string, s driver.Spec) error {
			if step == fake.StepReserve && full.Load() {
				return engine.Errorf(engine.Unavailable, "no address is free")
			}
			return nil
		}
	})
	id := b.session()
	w := b.launch(id, tried(1, 3, "trap 2 x\nhang"))[0]
	b.awaitRunning(id)
	full.Store(true)
	if err := (&model{b: b}).place(nil, id).Signal(t.Context(), engine.ID(w.ID), 9); err != nil {
		t.Fatal(err)
	}
	if a := b.awaitEnd(id); len(a.Failures) != 1 || a.Failures[0].ID != w.ID || a.Failures[0].Reason != "signal" {
		t.Errorf("%+v", a)
	}
	want := "worker " + w.ID[:8] + " is not tried again, attempt 2 of 4 is refused: no address is free"
	for len(b.messages(id, "refused")) == 0 { // it is told a moment later
		time.Sleep(time.Millisecond)
	}
	if got := b.messages(id, "refused"); got[0] != want {
		t.Errorf("the console says %q", got)
	}
}

// Awaiting that they run: an attempt that ran counts, one that could not be launched is waited past.
func TestAwaitRunningOfRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, succeedsAt("w", 2))
		id := b.session()
		req := tried(1, 3, "hang")
		req.Name = "w"
		w := b.launch(id, req)[0]
		if a := b.awaitRunning(id, w.ID); len(a.Workers) != 1 || a.Workers[0].Attempt != 2 || a.Workers[0].Status != "running" {
			t.Errorf("%+v", a)
		}
		crash := b.launch(id, tried(1, 3, "exit 1"))[0]
		if a := b.awaitRunning(id, crash.ID); len(a.Workers) != 1 {
			t.Errorf("%+v", a)
		}
	})
}

func TestTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.session()
		req := tried(1, 1, "ignore-term\nhang")
		req.TimeLimit = 90.5
		w := b.launch(id, req)[0]
		if w.TimeLimit != 90.5 {
			t.Errorf("%+v", w)
		}
		start := time.Now()
		result, err := b.Await(context.Background(), id, api.Await{Completion: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if d, want := time.Since(start), 2*92500*time.Millisecond+100*time.Millisecond; d != want {
			t.Errorf("two attempts took %v, want %v", d, want)
		}
		a := result()
		last := a.Failures[0]
		if last.Status != "timedout" || last.Reason != "time limit" || last.Evidence.TimeLimitSeconds != 90.5 || last.Attempt != 2 ||
			*last.ExitCode != 137 || text(last.K8s.Reason) != "DeadlineExceeded" || text(last.K8s.Message) != "ended at its time limit of 90.5 s" {
			t.Errorf("%+v, evidence %+v", last, last.Evidence)
		}
		in := worker(1, "sleep 10s")
		in.TimeLimit = 11
		b.launch(id, in)
		if a := b.awaitEnd(id); len(a.Workers) != 1 || a.Workers[0].Evidence != nil && a.Workers[0].Evidence.TimeLimitSeconds != 0 {
			t.Errorf("in time: %+v", a.Workers)
		}
	})
}

func TestBadTerms(t *testing.T) {
	b := newBench(t)
	id := b.session()
	for _, c := range []struct {
		change func(*api.LaunchWorkers)
		says   string
	}{
		{func(r *api.LaunchWorkers) { r.Retries = -1 }, "retries must be from 0 to 1000, not -1"},
		{func(r *api.LaunchWorkers) { r.Retries = 1001 }, "retries must be from 0 to 1000, not 1001"},
		{func(r *api.LaunchWorkers) { r.TimeLimit = -1 }, "timeout_seconds must be a number of seconds above 0 and at most ten years (315360000), not -1"},
		{func(r *api.LaunchWorkers) { r.TimeLimit = math.Inf(1) }, "not +Inf"},
		{func(r *api.LaunchWorkers) { r.TimeLimit = math.NaN() }, "not NaN"},
		{func(r *api.LaunchWorkers) { r.TimeLimit = 4e8 }, "at most ten years"},
		{func(r *api.LaunchWorkers) { r.Group = strings.Repeat("x", 201) }, "the group's name has 201 bytes: at most 200 are allowed"},
		{func(r *api.LaunchWorkers) { r.Group = "a\nb" }, "cannot be printed"},
	} {
		req := worker(1, "exit 0")
		c.change(&req)
		if ws := b.launch(id, req); len(ws) != 1 || ws[0].ID != "" || !strings.Contains(ws[0].Message, c.says) {
			t.Errorf("%+v: %+v, want to be refused: %s", req, ws, c.says)
		}
	}
}
