package manager_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

func TestAwaitCompletion(t *testing.T) {
	b := newBench(t)
	id := b.session()
	good := b.launch(id, worker(2, "exit 0"))
	bad := b.launch(id, worker(1, "exit 3"))
	oom := b.launch(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 0.2, Code: "alloc 300000000"})
	killed := b.launch(id, worker(1, "signal 9"))
	a := b.awaitEnd(id, good[1].ID, bad[0].ID, good[0].ID, good[1].ID, "nonsense", oom[0].ID, killed[0].ID, "nonsense")
	if !slices.Equal(ids(a.Workers), []string{good[1].ID, good[0].ID}) {
		t.Errorf("workers %v", ids(a.Workers))
	}
	if !slices.Equal(ids(a.Failures), []string{bad[0].ID, oom[0].ID, killed[0].ID, "nonsense"}) {
		t.Fatalf("failures %v", ids(a.Failures))
	}
	for i, want := range []struct {
		status, reason, k8s, message string
		code                         int
		oom                          bool
	}{
		{"failed", "exit code", "Error", "exit code 3", 3, false},
		{"failed", "out of memory", "OOMKilled", "out of memory: limit 200 MB, peak 200 MB", 137, true},
		{"failed", "signal", "Error", "ended by signal 9 (killed)", 137, false},
	} {
		w := a.Failures[i]
		if w.Status != want.status || w.Reason != want.reason || text(w.K8s.Reason) != want.k8s || text(w.K8s.Message) != want.message ||
			w.ExitCode == nil || *w.ExitCode != want.code || *w.K8s.ExitCode != want.code || w.OOMKilled != want.oom {
			t.Errorf("%+v: %s, %s", w, text(w.K8s.Reason), text(w.K8s.Message))
		}
	}
	if e := a.Failures[1].Evidence; e.MemoryLimitBytes != 200e6 || e.MemoryPeakBytes != 200e6 {
		t.Errorf("evidence %+v", e)
	}
	if w := a.Failures[3]; w.Status != "unknown" || text(w.K8s.Message) != "no such worker in this session" {
		t.Errorf("unknown %+v", w)
	}
}

// Ids of another session's workers are no more known than invented ones.
func TestAwaitOtherSessions(t *testing.T) {
	b := newBench(t)
	one, two := b.session(), b.session()
	ws := b.launch(one, worker(1, "hang"))
	for _, id := range []string{ws[0].ID, string(two)} {
		if a := b.awaitEnd(two, id); len(a.Failures) != 1 || a.Failures[0].Status != "unknown" {
			t.Errorf("%+v", a)
		}
	}
	if r := b.stop(two, ws[0].ID); r[0].Status != 404 {
		t.Errorf("%+v", r)
	}
}

func TestAwaitRunning(t *testing.T) {
	b := newBench(t, func(_ *manager.Config, f *fake.Options) {
		f.Fail = func(step string, s driver.Spec) error {
			if step == fake.StepSandbox && s.Name == "fails" {
				return errors.New("injected")
			}
			return nil
		}
	})
	id := b.session()
	over := b.launch(id, worker(1, "exit 0"))
	b.awaitEnd(id)
	runs := b.launch(id, worker(1, "hang"))
	short := b.launch(id, worker(1, "exit 0"))
	req := worker(1, "hang")
	req.Name = "fails"
	fails := b.launch(id, req)
	a := b.await(id, api.Await{IDs: []string{over[0].ID, runs[0].ID, fails[0].ID}, Completion: false})
	if !slices.Equal(ids(a.Workers), ids(runs)) || a.Workers[0].IPAddress == "unknown" || a.Workers[0].Status != "running" {
		t.Errorf("workers %+v", a.Workers)
	}
	if !slices.Equal(ids(a.Failures), []string{over[0].ID, fails[0].ID}) {
		t.Errorf("failures %v", ids(a.Failures))
	}
	b.awaitEnd(id, short[0].ID)
}

func TestAwaitNothing(t *testing.T) {
	b := newBench(t)
	id := b.session()
	if a := b.awaitEnd(id); a.Workers == nil || a.Failures == nil || len(a.Workers)+len(a.Failures) != 0 {
		t.Errorf("%+v", a)
	}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1)} {
		if _, err := b.Await(t.Context(), id, api.Await{Timeout: bad}, nil); engine.KindOf(err) != engine.Invalid {
			t.Errorf("timeout %v: %v", bad, err)
		}
	}
}

func TestAwaitEndsWithItsSession(t *testing.T) {
	b := newBench(t)
	id := b.session()
	b.launch(id, worker(2, "hang"))
	b.awaitRunning(id)
	result := make(chan api.Awaited, 1)
	go func() { a, _ := b.Await(context.Background(), id, api.Await{Completion: true}, nil); result <- a() }()
	if err := b.EndSession(t.Context(), id, "owner"); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-result:
		if len(a.Failures) != 2 || a.Failures[0].Reason != "session ended" {
			t.Errorf("%+v", a)
		}
	case <-time.After(deadline):
		t.Fatal("await outlives its session")
	}
}

func TestAwaitProgress(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 1e9, CPU: 4}))
	id := b.session()
	b.launch(id, api.LaunchWorkers{N: 3, CPU: 1, Memory: 1, Code: "exit 0"})
	var seen []api.AwaitProgress
	if _, err := b.Await(t.Context(), id, api.Await{Completion: true}, func(p api.AwaitProgress) { seen = append(seen, p) }); err != nil {
		t.Fatal(err)
	}
	for i, p := range seen {
		if p.Of != 3 || p.Done == 3 || i > 0 && (p.Done < seen[i-1].Done || p == seen[i-1]) {
			t.Errorf("progress %+v", seen)
		}
	}
	if len(seen) == 0 || seen[0].Waiting == "" {
		t.Errorf("progress %+v: one of the three has to wait", seen)
	}
}

// What is told of the first waiting worker stays true while it waits.
func TestAwaitTellsWhyAnew(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 10e9, CPU: 4}))
	one, two := b.session(), b.session()
	large := b.launch(one, api.LaunchWorkers{N: 2, CPU: 1, Memory: 4, Code: "hang"})
	ws := b.launch(two, api.LaunchWorkers{N: 1, CPU: 1, Memory: 7, Code: "hang"})
	told := make(chan api.AwaitProgress, 100)
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	go func() {
		_, err := b.Await(ctx, two, api.Await{IDs: ids(ws), Completion: true}, func(p api.AwaitProgress) { told <- p })
		result <- err
	}()
	next := func(want string) {
		t.Helper()
		select {
		case p := <-told:
			if p.Waiting != want || p.Done != 0 && want != "" { // with its room it may already be done
				t.Errorf("told %+v, want %q", p, want)
			}
		case <-time.After(deadline):
			t.Fatalf("not told: %q", want)
		}
	}
	next("waits for 7 GB memory: 2 GB of 10 GB is free")
	b.stop(one, large[0].ID)
	next("waits for 7 GB memory: 6 GB of 10 GB is free")
	three := b.sessionOf(api.CreateSession{Code: "hang", Memory: 5})
	next("waits for a session to end: asks for 7 GB memory, sessions themselves hold 5 GB of 10 GB")
	if err := b.EndSession(t.Context(), three, "owner"); err != nil {
		t.Fatal(err)
	}
	next("waits for 7 GB memory: 6 GB of 10 GB is free")
	b.stop(one, large[1].ID)
	next("") // it has its room
	b.stop(two, ws[0].ID)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// In a bubble time stands still until everything waits: what is answered is answered at exactly that moment.
func TestAwaitTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.session()
		ws := b.launch(id, worker(1, "sleep 90s\nexit 0"))
		slow := b.launch(id, worker(1, "sleep 1000h\nexit 0"))
		start := time.Now()
		took := func(want time.Duration) {
			t.Helper()
			if d := time.Since(start); d != want {
				t.Errorf("answered after %v, want %v", d, want)
			}
			start = time.Now()
		}
		await := func(req api.Await) api.Awaited {
			t.Helper()
			a, err := b.Await(context.Background(), id, req, nil)
			if err != nil {
				t.Fatal(err)
			}
			return a()
		}
		b.awaitRunning(id)
		took(0)
		a := await(api.Await{IDs: ids(ws), Completion: true, Timeout: 60})
		took(60 * time.Second)
		if len(a.Failures) != 1 || a.Failures[0].Status != "running" || a.Failures[0].Duration != 60 {
			t.Errorf("at the timeout %+v", a)
		}
		a = await(api.Await{IDs: ids(ws), Completion: true})
		took(30 * time.Second)
		if len(a.Workers) != 1 || a.Workers[0].Duration != 90 {
			t.Errorf("after its end %+v", a)
		}
		a = await(api.Await{All: true, Completion: true, Timeout: 1e12})
		took(1000*time.Hour - 90*time.Second)
		if len(a.Workers) != 2 || a.Workers[1].ID != slow[0].ID {
			t.Errorf("without timeout %+v", a)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.launch(id, worker(1, "hang"))
		if _, err := b.Await(ctx, id, api.Await{Completion: true}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the client is gone: %v", err)
		}
		took(time.Second)
	})
}
