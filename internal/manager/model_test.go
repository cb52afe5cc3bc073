package manager_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/manager"
)

const (
	modelMemory = 10 // gigabytes
	modelGPUs   = 3
)

// model is what a simple mind expects: every request has its room or stands in one queue, and only its head is served.
type model struct {
	b        *bench
	sessions []engine.ID
	asked    []*asked // all, in order of asking
	seen     map[string][]string
}

type asked struct {
	id      string
	session engine.ID
	memory  float64
	gpus    int
	holds   bool
	over    bool
}

// settle serves the head of the queue while there is room.
func (m *model) settle() {
	memory, gpus := float64(modelMemory), modelGPUs
	for _, a := range m.asked {
		if a.holds {
			memory -= a.memory
			gpus -= a.gpus
		}
	}
	for _, a := range m.asked {
		if a.holds || a.over {
			continue
		}
		if a.memory > memory || a.gpus > gpus {
			return
		}
		a.holds = true
		memory -= a.memory
		gpus -= a.gpus
	}
}

func (m *model) finish(a *asked) { a.holds, a.over = false, true }

func (m *model) live(t *rapid.T) *asked {
	live := slices.DeleteFunc(slices.Clone(m.asked), func(a *asked) bool { return a.over })
	if len(live) == 0 {
		t.Skip("nobody lives")
	}
	return rapid.SampledFrom(live).Draw(t, "worker")
}

func (m *model) anySession(t *rapid.T) engine.ID {
	if len(m.sessions) == 0 {
		t.Skip("no session")
	}
	return rapid.SampledFrom(m.sessions).Draw(t, "session")
}

func (m *model) createSession(t *rapid.T) {
	if len(m.sessions) == 4 {
		t.Skip("enough")
	}
	m.sessions = append(m.sessions, m.b.session())
}

func (m *model) launch(t *rapid.T) {
	s := m.anySession(t)
	req := api.LaunchWorkers{
		N: rapid.IntRange(0, 4).Draw(t, "n"), CPU: 1, Memory: float64(rapid.IntRange(1, modelMemory+1).Draw(t, "memory")),
		GPUs: rapid.IntRange(0, modelGPUs).Draw(t, "gpus"), Code: rapid.SampledFrom([]string{"hang", "ignore-term\nhang"}).Draw(t, "code"),
	}
	ws := m.b.launch(s, req)
	if len(ws) != req.N {
		t.Fatalf("%d descriptions for n=%d", len(ws), req.N)
	}
	for _, w := range ws {
		if refused := w.ID == ""; refused != (req.Memory > modelMemory) {
			t.Fatalf("memory %v: %+v", req.Memory, w)
		}
		if w.ID != "" {
			m.asked = append(m.asked, &asked{id: w.ID, session: s, memory: req.Memory, gpus: req.GPUs})
		}
	}
	m.settle()
}

func (m *model) stop(t *rapid.T) {
	a := m.live(t)
	m.b.stop(a.session, a.id)
	m.b.awaitEnd(a.session, a.id)
	m.finish(a)
	m.settle()
}

// kill ends a worker as anything outside could.
func (m *model) kill(t *rapid.T) {
	a := m.live(t)
	if !a.holds {
		t.Skip("it waits")
	}
	m.b.awaitRunning(a.session, a.id)
	place := m.place(t, a.session)
	if err := place.Signal(context.Background(), engine.ID(a.id), 9); err != nil {
		t.Fatal(err)
	}
	m.b.awaitEnd(a.session, a.id)
	m.finish(a)
	m.settle()
}

func (m *model) place(t *rapid.T, s engine.ID) driver.Session {
	p, err := m.b.driver.Recover(context.Background(), driver.SessionSpec{ID: s}, driver.Handle{Session: s})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (m *model) endSession(t *rapid.T) {
	s := m.anySession(t)
	if err := m.b.EndSession(context.Background(), s, "owner"); err != nil {
		t.Fatal(err)
	}
	m.sessions = slices.DeleteFunc(m.sessions, func(o engine.ID) bool { return o == s })
	for _, a := range m.asked {
		if a.session == s && !a.over {
			m.finish(a)
		}
	}
	m.settle()
}

// check compares: whoever holds room runs, whoever waits is scheduling and says so, and no status ever went back.
func (m *model) check(t *rapid.T) {
	synctest.Wait()
	memory, gpus := 0.0, 0
	for _, a := range m.asked {
		w := m.b.engine(a.id)
		want := "scheduling"
		switch {
		case a.over:
			want = w.Status
			if !engine.Status(want).Final() {
				t.Fatalf("%s should be over: %+v", a.id, w)
			}
		case a.holds:
			want = "running"
			memory += a.memory
			gpus += a.gpus
		}
		if w.Status != want || (want == "scheduling") != (text(w.K8s.Reason) == "Unschedulable") {
			t.Fatalf("%s is %s (%s), want %s", a.id, w.Status, text(w.K8s.Message), want)
		}
		before := m.seen[a.id]
		if n := len(before); n == 0 || before[n-1] != w.Status {
			if n > 0 && !engine.Status(before[n-1]).CanBecome(engine.Status(w.Status)) {
				t.Fatalf("%s went from %s to %s", a.id, before[n-1], w.Status)
			}
			m.seen[a.id] = append(before, w.Status)
		}
	}
	if memory > modelMemory || gpus > modelGPUs {
		t.Fatalf("given out: %v GB, %d GPUs", memory, gpus)
	}
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			gpus := []driver.GPU{{Index: 0}, {Index: 1}, {Index: 2}}
			b := newBench(t, capacity(manager.Capacity{MemoryBytes: modelMemory * 1e9, CPU: 1, GPUs: gpus}))
			b.t = rt // a failure shows the shortest way to it
			m := &model{b: b, seen: map[string][]string{}}
			rt.Repeat(map[string]func(*rapid.T){
				"session": m.createSession, "launch": m.launch, "stop": m.stop, "kill": m.kill, "end": m.endSession, "": m.check,
			})
			for len(m.sessions) > 0 {
				m.endSession(rt)
			}
			// All room came back: a worker that wants all of it runs at once.
			s := b.session()
			b.launch(s, api.LaunchWorkers{N: 1, CPU: 1, Memory: modelMemory, GPUs: modelGPUs, Code: "hang"})
			if a := b.awaitRunning(s); len(a.Workers) != 1 {
				t.Errorf("room was lost: %+v", a)
			}
		})
	})
}
