package manager_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"muster/api"
	"muster/engine"
)

// restart restarts and releases.
func (b *bench) restart(s engine.ID, ids ...string) []api.Worker {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	reply, release, err := b.Restart(ctx, s, api.Restart{IDs: ids}, "session")
	if err != nil {
		b.t.Fatal(err)
	}
	release()
	return reply.Workers
}

func TestRestart(t *testing.T) {
	b := newBench(t)
	id := b.session()
	req := worker(2, "print ${MARK}\nexit ${CODE}")
	req.Env, req.Group, req.Name, req.Retries = map[string]string{"MARK": "mark", "CODE": "0"}, "g", "w", 1
	old := b.launch(id, req)
	b.awaitEnd(id)
	again := b.restart(id, old[1].ID, "nonsense", old[1].ID, old[0].ID)
	if len(again) != 3 || again[1].ID != "" || again[1].Message != `no worker of this session has the id "nonsense"` || again[1].RestartOf != "nonsense" {
		t.Fatalf("%+v", again)
	}
	for i, of := range map[int]string{0: old[1].ID, 2: old[0].ID} {
		if w := again[i]; w.RestartOf != of || w.ID == of || w.Group != "g" || w.Name != "w" || w.Attempt != 1 || w.Retries != 1 {
			t.Errorf("%+v", w)
		}
	}
	if a := b.awaitEnd(id); len(a.Workers) != 4 {
		t.Errorf("%+v", a)
	}
	for _, w := range []string{again[0].ID, again[2].ID} {
		if out := b.output(id, w, 1); out != "mark\n" {
			t.Errorf("it printed %q", out)
		}
	}
	if told := b.messages(id, "refused"); len(told) != 1 || told[0] != `1 worker refused: no worker of this session has the id "nonsense"` {
		t.Errorf("the console says %q", told)
	}
	if w := b.engine(old[0].ID); w.Status != "succeeded" || w.RestartOf != "" {
		t.Errorf("the old one: %+v", w)
	}
}

// One that has not ended is stopped first: running, waiting for room, or between two attempts.
func TestRestartOfLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.session()
		running := b.launch(id, worker(1, "ignore-term\nhang"))[0]
		waiting := b.launch(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 24, Code: "exit 0"})[0]
		failing := b.launch(id, tried(1, 9, "exit 1"))[0]
		b.awaitRunning(id, running.ID)
		synctest.Wait()
		again := b.restart(id, running.ID, waiting.ID, failing.ID)
		for _, old := range []string{running.ID, waiting.ID, failing.ID} {
			if a := b.awaitEnd(id, old); len(a.Failures) != 1 {
				t.Errorf("%+v", a)
			}
		}
		if w := b.engine(running.ID); w.Status != "stopped" || w.Evidence.By != "session" {
			t.Errorf("%+v", w)
		}
		if a := b.await(id, api.Await{IDs: []string{again[0].ID}}); len(a.Workers) != 1 {
			t.Errorf("%+v", a)
		}
		if w := b.engine(failing.ID); w.Attempt != 1 || w.RetriedAs != "" && b.engine(w.RetriedAs).RetriedAs != "" {
			t.Errorf("it was tried on: %+v", w)
		}
		b.stop(id, again[0].ID)
		if a := b.awaitEnd(id, again[1].ID); len(a.Workers) != 1 {
			t.Errorf("%+v", a)
		}
		b.stop(id, again[2].ID)
	})
}

// Work that has ended is kept within what a session may have, and makes room for what is to live.
func TestOldWorkIsForgotten(t *testing.T) {
	b := newBench(t)
	id := b.session()
	large := worker(1, "exit 0\n# "+strings.Repeat("x", 3_900_000))
	var old []string
	for range 20 {
		ws := b.launch(id, large)
		if ws[0].ID == "" {
			t.Fatalf("after %d that have ended: %s", len(old), ws[0].Message)
		}
		b.awaitEnd(id, ws[0].ID)
		old = append(old, ws[0].ID)
	}
	const gone = "its code and environment are not kept any more: only those of what the session launched last are (launch it anew)"
	for i, w := range b.restart(id, old...) {
		if forgotten := i < 4; forgotten != (w.ID == "") || forgotten && w.Message != gone {
			t.Errorf("worker %d of 20: %+v", i+1, w)
		}
	}
	if told := b.messages(id, "refused"); len(told) != 1 || told[0] != "4 workers refused: "+gone {
		t.Errorf("the console says %q", told)
	}
	if a := b.awaitEnd(id); len(a.Workers) != 36 {
		t.Errorf("%d have succeeded", len(a.Workers))
	}
	for i := range 1_010 {
		b.launch(id, worker(1, fmt.Sprintf("print %d", i)))
	}
	b.awaitEnd(id)
	if _, works := b.Holds(id); works != 1_001 { // the session's own, too
		t.Errorf("%d works are held", works)
	}
	if err := b.EndSession(t.Context(), id, "owner"); err != nil {
		t.Fatal(err)
	}
	if _, works := b.Holds(id); works != 0 {
		t.Errorf("%d works are held after the end", works)
	}
	if _, _, err := b.Restart(t.Context(), id, api.Restart{IDs: old}, "session"); engine.KindOf(err) != engine.Conflict {
		t.Errorf("of a session that has ended: %v", err)
	}
}

// A restart begins when its reply is written, like a launch.
func TestRestartIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.session()
		old := b.launch(id, worker(1, "exit 0"))
		b.awaitEnd(id)
		reply, release, err := b.Restart(t.Context(), id, api.Restart{IDs: ids(old)}, "session")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w := b.engine(reply.Workers[0].ID); w.Status != "scheduling" {
			t.Errorf("before the release: %+v", w)
		}
		release()
		if a := b.awaitEnd(id, reply.Workers[0].ID); len(a.Workers) != 1 {
			t.Errorf("%+v", a)
		}
		if got := slices.Concat(b.restart(id)); len(got) != 0 {
			t.Errorf("nothing was named: %+v", got)
		}
	})
}
