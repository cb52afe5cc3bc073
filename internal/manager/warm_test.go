package manager_test

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
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

// ahead lets the driver start engines ahead of their work.
func ahead(_ *manager.Config, f *fake.Options) {
	f.Claim = func(c *driver.Capabilities) { c.Ahead = true }
}

// waits returns the engines of a session that wait, as soon as there are n.
func (b *bench) waits(id engine.ID, n int) []driver.Spec {
	b.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		all := b.driver.Ahead(id)
		if len(all) == n {
			return all
		}
		if time.Now().After(end) {
			b.t.Fatalf("%d engines wait, want %d", len(all), n)
		}
	}
}

func idsOf(specs []driver.Spec) (list []string) {
	for _, s := range specs {
		list = append(list, string(s.ID))
	}
	return list
}

func TestLaunchesUseWhatWaits(t *testing.T) {
	b := newBench(t, ahead)
	id := b.session()
	first := b.waits(id, 2) // of a kind of their own: the session's own kernel, and the usual size
	ws := b.launch(id, worker(3, "exit 0"))
	waited := 0
	for _, w := range ws {
		if slices.Contains(idsOf(first), w.ID) {
			waited++
		}
		if !slices.ContainsFunc(first, func(s driver.Spec) bool { return string(s.ID) != w.ID || s.Address.String() == w.IPAddress }) {
			t.Errorf("worker %s is not where its engine waits: %s", w.ID, w.IPAddress)
		}
	}
	if waited != 2 {
		t.Errorf("%d of %d workers had been started ahead, want 2", waited, len(ws))
	}
	if a := b.awaitEnd(id, ws[0].ID, ws[1].ID, ws[2].ID); len(a.Workers) != 3 {
		t.Errorf("%+v", a)
	}
	b.waits(id, 3) // as many as were launched at once
}

// What an engine that waits knows is what every engine of the kind has: nothing of the launch before.
func TestWhatWaitsKnowsNothingOfOtherLaunches(t *testing.T) {
	b := newBench(t, ahead)
	id := b.session()
	req := worker(2, "print $TOKEN\nexit 0")
	req.Env = map[string]string{"TOKEN": "canary", "PYTHONHASHSEED": "7"}
	req.Name, req.Memory, req.Group = "named", 3, "g"
	ws := b.launch(id, req)
	b.awaitEnd(id, ws[0].ID, ws[1].ID)
	var of []driver.Spec
	for _, s := range b.waits(id, 4) {
		if slices.Contains(s.Env, "PYTHONHASHSEED=7") {
			of = append(of, s)
		}
		if text := strings.Join(s.Env, " ") + strings.Join(s.Argv, " "); strings.Contains(text, "canary") || strings.Contains(text, "print") {
			t.Errorf("it knows of the launch: %s", text)
		}
		if len(s.Work.Bytes) > 0 || len(s.Files) > 0 || s.Name != "" || s.Role != engine.RoleWorker || s.TimeLimit != 0 {
			t.Errorf("%+v", s)
		}
		if !slices.Contains(s.Env, "CDSW_ENGINE_ID="+string(s.ID)) || !slices.Contains(s.Env, "CDSW_IP_ADDRESS="+s.Address.String()) {
			t.Errorf("it does not know who it is: %v", s.Env)
		}
	}
	if len(of) != 2 {
		t.Errorf("%d wait with the variable that counts at the start, want 2", len(of))
	}
	again := b.launch(id, req)
	if !slices.Contains(idsOf(of), again[0].ID) || !slices.Contains(idsOf(of), again[1].ID) {
		t.Errorf("%v were launched, and %v waited", again, idsOf(of))
	}
	b.awaitEnd(id, again[0].ID, again[1].ID)
	if got := b.output(id, again[0].ID, console.Stdout); got != "canary\n" {
		t.Errorf("it printed %q", got)
	}
}

// Where what differs counts when an interpreter starts, it is started with its work, where another one waited.
func TestOtherKindsAreCold(t *testing.T) {
	b := newBench(t, ahead)
	id := b.session()
	n := 2
	for what, change := range map[string]func(*api.LaunchWorkers){
		"LD_PRELOAD=x.so": func(r *api.LaunchWorkers) { r.Env = map[string]string{"LD_PRELOAD": "x.so"} }, // counts at the start
		"\x002":           func(r *api.LaunchWorkers) { r.CPU = 2 },                                       // threads
	} {
		req := worker(1, "exit 0")
		change(&req)
		waiting := idsOf(b.waits(id, n))
		n = 4 // two kinds
		w := b.launch(id, req)[0]
		b.awaitEnd(id, w.ID)
		if spec := b.driver.Spec(id, engine.ID(w.ID)); !slices.Contains(waiting, w.ID) || string(spec.ID) != w.ID || spec.Work == nil || !strings.Contains(spec.Work.Kind.Name, what) {
			t.Errorf("%q: it waited: %v, and was started as %+v", what, slices.Contains(waiting, w.ID), spec)
		}
	}
}

// An interpreter that has loaded no libraries waits for work of any CPU.
func TestThreadsAreNoKind(t *testing.T) {
	b := newBench(t, ahead, func(c *manager.Config, _ *fake.Options) { c.Kernels = scripts{threads: true, bare: true} })
	id := b.session()
	for _, c := range []struct {
		what    string
		cpu     float64
		env     map[string]string
		waiting int    // of two numbers of threads
		name    string // what is in its kind's
	}{
		{"as the session's own", 1, nil, 2, ""},
		{"more CPU", 2, nil, 2, ""},
		{"its variables", 1, map[string]string{"OMP_NUM_THREADS": "3", "PYTHON_CPU_COUNT": "2"}, 4, ""},
		{"as the first", 1, nil, 4, ""},
		{"another kind", 1, map[string]string{"PYTHONHASHSEED": "7"}, 4, "PYTHONHASHSEED=7"},
		{"as before", 2, nil, 6, ""},
		{"no number", 2, map[string]string{"OMP_NUM_THREADS": "3,2"}, 6, "OMP_NUM_THREADS=3,2"}, // which each library reads in its own way
		{"none", 2, map[string]string{"OMP_NUM_THREADS": "0"}, 6, "OMP_NUM_THREADS=0"},
	} {
		what, req := c.what, worker(1, "print $OMP_NUM_THREADS\nexit 0")
		req.CPU, req.Env = c.cpu, c.env
		waiting := b.waits(id, c.waiting)
		w := b.launch(id, req)[0]
		b.awaitEnd(id, w.ID)
		if work := b.driver.Spec(id, engine.ID(w.ID)).Work; !slices.Contains(idsOf(waiting), w.ID) || work == nil || !work.Kind.Bare || work.Kind.Name == "" {
			t.Errorf("%s: it did not wait for this (%v wait): %+v", what, idsOf(waiting), w)
		}
		if kind := b.driver.Spec(id, engine.ID(w.ID)).Work.Kind; !strings.HasSuffix(kind.Name, c.name) || c.name == "" && strings.Contains(kind.Name, "=") {
			t.Errorf("%s: its kind is %+v", what, kind)
		}
		threads := cmp.Or(req.Env["OMP_NUM_THREADS"], strconv.Itoa(int(max(1, req.CPU))))
		if got := b.output(id, w.ID, console.Stdout); got != threads+"\n" {
			t.Errorf("%s: it printed %q, want %s", what, got, threads)
		}
	}
}

func TestRefusedLaunchesGiveTheirSeatsBack(t *testing.T) {
	b := newBench(t, ahead)
	b.settings("[limits]\nworkers = 1\n")
	id := b.session()
	b.waits(id, 2)
	before := b.driver.World().Count()["addresses"]
	if ws := b.launch(id, worker(2, "exit 0")); ws[0].ID != "" {
		t.Fatalf("%+v", ws)
	}
	b.waits(id, 2)
	if after := b.driver.World().Count()["addresses"]; after != before {
		t.Errorf("%d addresses are taken, %d were", after, before)
	}
}

func TestNothingWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ahead)
		id := b.session()
		synctest.Wait()
		b.waits(id, 2)
		time.Sleep(4 * time.Minute)
		b.awaitEnd(id, b.launch(id, worker(1, "exit 0"))[0].ID)
		time.Sleep(4 * time.Minute)
		b.waits(id, 2)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		b.waits(id, 0)
		b.awaitEnd(id, b.launch(id, worker(1, "exit 0"))[0].ID) // cold, and the next one not
		b.waits(id, 2)
	})
}

// Who launches many now and then, and one in between, finds many waiting; who has not done so for long finds as many as he launches.
func TestLargestLaunchOfLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ahead)
		id := b.session()
		launch := func(n int) {
			for _, w := range b.launch(id, worker(n, "exit 0")) {
				b.awaitEnd(id, w.ID)
			}
		}
		launch(7)
		b.waits(id, 7)
		time.Sleep(3 * time.Minute)
		launch(1)
		b.waits(id, 7)
		launch(6)
		time.Sleep(3 * time.Minute) // the seven are long ago
		synctest.Wait()
		b.waits(id, 6)
		launch(3)
		b.waits(id, 6)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		b.waits(id, 3)
		launch(5)
		b.waits(id, 5)
	})
}

func TestFewKindsWait(t *testing.T) {
	b := newBench(t, ahead)
	id := b.session()
	for _, seed := range []string{"1", "2", "3", "4"} {
		req := worker(1, "exit 0")
		req.Env = map[string]string{"PYTHONHASHSEED": seed}
		b.awaitEnd(id, b.launch(id, req)[0].ID)
	}
	var seeds []string
	for _, s := range b.waits(id, 4) {
		for _, v := range s.Env {
			if seed, is := strings.CutPrefix(v, "PYTHONHASHSEED="); is {
				seeds = append(seeds, seed)
			}
		}
	}
	if slices.Sort(seeds); !slices.Equal(seeds, []string{"3", "3", "4", "4"}) {
		t.Errorf("those of %v wait, want the last two", seeds)
	}
}

func TestNothingIsStartedAheadWhereNobodyWants(t *testing.T) {
	b := newBench(t, ahead, func(c *manager.Config, _ *fake.Options) { c.Ahead = manager.AheadOff })
	id := b.session()
	b.awaitEnd(id, b.launch(id, worker(1, "exit 0"))[0].ID)
	b.waits(id, 0)
}
