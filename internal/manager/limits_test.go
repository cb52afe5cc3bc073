package manager_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/manager"
)

// A reply describes each id asked for, so that a request of megabytes would be answered with hundreds of them.
func TestTooManyIDs(t *testing.T) {
	b := newBench(t)
	id := b.session()
	many := make([]string, 10_001)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	_, await := b.Await(t.Context(), id, api.Await{IDs: many}, nil)
	_, stop := b.Stop(t.Context(), id, api.Stop{IDs: many}, "session")
	for what, err := range map[string]error{"await": await, "stop": stop} {
		if engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), "10001 ids are given: at most 10000") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if a := b.await(id, api.Await{IDs: many[1:]}); len(a.Failures) != 10_000 {
		t.Errorf("%d answers to 10,000 ids", len(a.Failures))
	}
}

// refusedWith launches one worker, which must be refused with the message, also in the console.
func (b *bench) refusedWith(id engine.ID, req api.LaunchWorkers, want string) {
	b.t.Helper()
	ws := b.launch(id, req)
	if len(ws) != 1 || ws[0].ID != "" || ws[0].Message != want {
		b.t.Errorf("%+v, want to be refused: %s", ws, want)
	}
	if told := b.messages(id, "refused"); len(told) == 0 || told[len(told)-1] != "1 worker refused: "+want {
		b.t.Errorf("the console says %q", told)
	}
}

// The code and environments of workers that have not ended are held in memory: a session may have only so much of them.
func TestLiveWorkIsBounded(t *testing.T) {
	b := newBench(t)
	id := b.session()
	req := worker(1, "hang\n# "+strings.Repeat("x", 3_900_000))
	var live []string
	for range 16 {
		ws := b.launch(id, req)
		if ws[0].ID == "" {
			t.Fatalf("after %d launches: %s", len(live), ws[0].Message)
		}
		live = append(live, ws[0].ID)
	}
	const want = "the code and environments of the session's workers that have not ended would have 66.3 MB, at most 64 MB are allowed " +
		"(write them to files in the project, or wait until workers have ended)"
	b.refusedWith(id, req, want)
	b.launch(id, worker(1, "exit 0")) // a small one has room
	b.stop(id, live[0])
	b.awaitEnd(id, live[0])
	if ws := b.launch(id, req); ws[0].ID == "" {
		t.Errorf("one has ended: %s", ws[0].Message)
	}
}

// Descriptions of workers are kept as long as their session.
func TestWorkersOfASessionAreBounded(t *testing.T) {
	b := newBench(t)
	id := b.session()
	for range 5 {
		ws := b.launch(id, worker(10_000, "exit 0"))
		if len(ws) != 10_000 || ws[9_999].ID == "" {
			t.Fatalf("%d, %s", len(ws), ws[0].Message)
		}
		if _, err := b.Stop(t.Context(), id, api.Stop{All: true}, "session"); err != nil {
			t.Fatal(err)
		}
	}
	b.refusedWith(id, worker(1, "exit 0"), "the session has launched 50000 workers, and 1 more would be over 50000, the most that a session may "+
		"(start another session)")
}

// Engines make the server hold only so much by waiting, and what one wait lets go of another may have.
func TestWaitsOfASessionAreBounded(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 2e9, CPU: 4}))
	id := b.session()
	b.launch(id, worker(10_000, "hang"))
	all := api.Await{Completion: true, All: true}
	begun, over := make(chan struct{}), make(chan error, 200)
	var stops []context.CancelFunc
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		stops = append(stops, cancel)
		go func() {
			_, err := b.Await(ctx, id, all, func(api.AwaitProgress) {
				select {
				case begun <- struct{}{}:
				case <-ctx.Done():
				}
			})
			over <- err
		}()
		<-begun
	}
	refused := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := b.Await(ctx, id, all, nil)
		return err
	}
	if err := refused(); engine.KindOf(err) != engine.Unavailable || !strings.Contains(err.Error(), "too many waits at once") {
		t.Errorf("the 201st: %v", err)
	}
	stops[0]()
	<-over
	if err := refused(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("when one has ended: %v", err)
	}
	for _, stop := range stops {
		stop()
	}
	for range stops[1:] {
		<-over
	}
}

// A server does not grow with all sessions that it ever had: the oldest that have ended are forgotten, those that run are not.
func TestOldSessionsAreForgotten(t *testing.T) {
	b := newBench(t)
	running := b.session()
	var all []engine.ID
	for range 1_002 {
		id := b.sessionOf(api.CreateSession{Code: "exit 0"})
		b.ended(id)
		all = append(all, id)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for len(b.Sessions()) != 1_001 { // a session is looked at when it has let go of everything, which may be a moment later
		select {
		case <-ctx.Done():
			t.Fatalf("%d sessions are known", len(b.Sessions()))
		case <-time.After(time.Millisecond):
		}
	}
	for i, id := range append([]engine.ID{running}, all...) {
		_, err := b.Session(id)
		if forgotten := i == 1 || i == 2; forgotten != (engine.KindOf(err) == engine.NotFound) {
			t.Errorf("session %d: %v", i, err)
		}
	}
}
