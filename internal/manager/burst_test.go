package manager_test

import (
	"errors"
	"slices"
	"strconv"
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

// zygotesTake has engines wait, and zygotes ready after some time.
func zygotesTake(takes time.Duration) option {
	return func(_ *manager.Config, f *fake.Options) {
		f.Claim = func(c *driver.Capabilities) { c.Ahead = true }
		f.Delay = func(step string, _ driver.Spec) time.Duration {
			if step == fake.StepZygote {
				return takes
			}
			return 0
		}
	}
}

// ofItsOwn is a launch of a kind for which nothing waits.
func ofItsOwn(n int, code string) api.LaunchWorkers { return ofKind("7", n, code) }

func ofKind(kind string, n int, code string) api.LaunchWorkers {
	req := worker(n, code)
	req.CPU, req.Memory = 0.1, 0.1
	req.Env = map[string]string{"PYTHONHASHSEED": kind}
	return req
}

// statuses counts workers by their status.
func (b *bench) statuses(ws []api.Worker) map[string]int {
	count := map[string]int{}
	for _, w := range ws {
		count[b.engine(w.ID).Status]++
	}
	return count
}

// Those for which nobody waits are started when there is a zygote, and nobody else waits behind them.
func TestBurstWaitsForZygote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, zygotesTake(3*time.Second))
		id := b.session()
		b.waits(id, 2)
		ws := b.launch(id, ofItsOwn(8, "exit 0"))
		synctest.Wait()
		if got := b.statuses(ws); got["scheduling"] != 8 {
			t.Errorf("while the zygote is made: %v", got)
		}
		if why := b.engine(ws[0].ID).K8s.Message; why == nil || !strings.Contains(*why, "is imported") {
			t.Errorf("it does not say why: %v", why)
		}
		few := b.launch(id, ofItsOwn(1, "exit 0"))[0]
		other := b.launch(id, worker(1, "exit 0"))[0]
		if a := b.awaitEnd(id, other.ID); len(a.Workers) != 1 {
			t.Errorf("of another kind: %+v", a)
		}
		synctest.Wait()
		if got := b.statuses(ws); got["scheduling"] != 8 {
			t.Errorf("while the zygote is made: %v", got)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := b.statuses(append(ws, few)); got["succeeded"] != 9 {
			t.Errorf("when the zygote is ready: %v", got)
		}
		again := b.launch(id, ofItsOwn(20, "exit 0"))
		synctest.Wait()
		if got := b.statuses(again); got["succeeded"] != 20 {
			t.Errorf("with a zygote: %v", got)
		}
	})
}

func TestBurstDoesNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, zygotesTake(time.Minute))
		id := b.session()
		b.waits(id, 2)
		ws := b.launch(id, ofItsOwn(8, "exit 0"))
		time.Sleep(9 * time.Second)
		if got := b.statuses(ws); got["scheduling"] != 8 {
			t.Errorf("after nine seconds: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := b.statuses(ws); got["succeeded"] != 8 {
			t.Errorf("after eleven: %v", got)
		}
		ws = b.launch(id, ofItsOwn(20, "exit 0"))
		synctest.Wait()
		if got := b.statuses(ws); got["succeeded"] != 20 {
			t.Errorf("a second burst: %v", got)
		}
	})
}

// A stop of one that is held is answered at once, and it never starts; so does the session's end.
func TestBurstIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, zygotesTake(5*time.Second))
		id := b.session()
		b.waits(id, 2)
		ws := b.launch(id, ofItsOwn(8, "hang"))
		synctest.Wait()
		began := time.Now()
		var ids []string
		for _, w := range ws {
			ids = append(ids, w.ID)
		}
		b.stop(id, ids...)
		if a := b.awaitEnd(id, ids...); len(a.Failures) != 8 || a.Failures[0].Status != "stopped" || time.Since(began) > 0 {
			t.Errorf("after %v: %+v", time.Since(began), a)
		}
		time.Sleep(6 * time.Second)
		for _, w := range ids {
			if b.driver.Spec(id, engine.ID(w)).ID != "" {
				t.Errorf("worker %s was started after it was stopped", w)
			}
		}
		req := ofItsOwn(30, "hang") // more than wait of the other kinds
		req.Env["PYTHONHASHSEED"] = "8"
		held := b.launch(id, req)
		synctest.Wait()
		if got := b.statuses(held); got["scheduling"] == 0 {
			t.Errorf("none is held: %v", got)
		}
		began = time.Now()
		if err := b.EndSession(t.Context(), id, "session"); err != nil {
			t.Fatal(err)
		}
		b.ended(id)
		if took := time.Since(began); took >= 5*time.Second {
			t.Errorf("the session's end took %v: it waited for the zygote", took)
		}
		if got := b.statuses(held); got["scheduling"]+got["starting"]+got["running"] != 0 {
			t.Errorf("after the session's end: %v", got)
		}
	})
}

// Two kinds have zygotes at a time: those of a third neither wait nor end what the others wait for.
func TestBurstsOfManyKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, zygotesTake(3*time.Second))
		id := b.session()
		var ws []api.Worker
		for kind := range 4 {
			ws = append(ws, b.launch(id, ofKind(strconv.Itoa(kind), 6, "exit 0"))...)
			b.launch(id, ofKind("single "+strconv.Itoa(kind), 1, "exit 0"))
			synctest.Wait()
		}
		if first, others := b.statuses(ws[:12]), b.statuses(ws[12:]); first["scheduling"] != 12 || others["succeeded"] != 12 {
			t.Errorf("while two zygotes are made: of their kinds %v, of others %v", first, others)
		}
		time.Sleep(4 * time.Second)
		if got := b.statuses(ws); got["succeeded"] != 24 {
			t.Errorf("when they are made: %v", got)
		}
	})
}

// A kind whose zygote could not be made is not waited for again.
func TestBurstWithoutZygote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, zygotesTake(3*time.Second), func(_ *manager.Config, f *fake.Options) {
			f.Fail = func(step string, _ driver.Spec) error {
				if step == fake.StepZygote {
					return errors.New("a module has left a thread")
				}
				return nil
			}
		})
		id := b.session()
		ws := b.launch(id, ofItsOwn(8, "exit 0"))
		time.Sleep(4 * time.Second)
		if got := b.statuses(ws); got["succeeded"] != 8 {
			t.Errorf("when it could not be made: %v", got)
		}
		again := b.launch(id, ofItsOwn(30, "exit 0"))
		synctest.Wait()
		if got := b.statuses(again); got["succeeded"] != 30 {
			t.Errorf("a second burst: %v", got)
		}
	})
}

// Where addresses are lacking, those of engines that wait for other work are used, and no more of them than are lacking.
func TestAddressesOfThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lacking atomic.Int32
		b := newBench(t, zygotesTake(time.Millisecond), func(_ *manager.Config, f *fake.Options) {
			f.Fail = func(step string, _ driver.Spec) error {
				if step == fake.StepReserve && lacking.Add(-1) >= 0 {
					return engine.Errorf(engine.Unavailable, "no address is free")
				}
				return nil
			}
		})
		id := b.session()
		wait := idsOf(b.waits(id, 2))
		lacking.Store(1)
		used := 0
		for _, w := range b.launch(id, ofItsOwn(8, "exit 0")) {
			if slices.Contains(wait, w.ID) {
				used++
			}
		}
		if used != 1 {
			t.Errorf("%d of those that waited were used for their addresses, want 1", used)
		}
	})
}
