package manager_test

import (
	"context"
	"slices"
	"strings"
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

// model is what a simple mind expects: every request has its room or stands in one queue, of which only the
// first is served that does not wait for a session to end.
type model struct {
	b        *bench
	sessions []engine.ID
	own      map[engine.ID]amount // what the sessions' own engines hold
	asked    []*asked             // all, in order of asking
	seen     map[string][]string
}

type amount struct {
	memory float64
	gpus   int
}

type asked struct {
	id      string
	session engine.ID
	memory  float64
	gpus    int
	holds   bool
	over    bool
}

// without is the machine without what sessions' own engines hold, and what of that is free.
func (m *model) without() (rest, free amount) {
	rest = amount{modelMemory, modelGPUs}
	for _, s := range m.sessions {
		rest.memory -= m.own[s].memory
		rest.gpus -= m.own[s].gpus
	}
	free = rest
	for _, a := range m.asked {
		if a.holds {
			free.memory -= a.memory
			free.gpus -= a.gpus
		}
	}
	return rest, free
}

func (a *asked) fits(b amount) bool { return a.memory <= b.memory && a.gpus <= b.gpus }

// settle serves the queue while there is room.
func (m *model) settle() {
	rest, free := m.without()
	for _, a := range m.asked {
		switch {
		case a.holds || a.over || !a.fits(rest):
		case !a.fits(free):
			return
		default:
			a.holds = true
			free.memory -= a.memory
			free.gpus -= a.gpus
		}
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
	want := amount{float64(rapid.IntRange(0, modelMemory/2).Draw(t, "own memory")), rapid.IntRange(0, 1).Draw(t, "own GPUs")}
	_, free := m.without()
	fits := want.memory <= free.memory && want.gpus <= free.gpus
	s, err := m.b.CreateSession(context.Background(), api.CreateSession{Code: "hang", Project: m.b.project, Memory: want.memory, GPUs: want.gpus})
	if fits != (err == nil) || err != nil && engine.KindOf(err) != engine.Unavailable {
		t.Fatalf("session of %+v with %+v free: %v", want, free, err)
	}
	if err == nil {
		m.sessions = append(m.sessions, engine.ID(s.ID))
		m.own[engine.ID(s.ID)] = want
		m.settle()
	}
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
		if refused := w.ID == ""; refused != (req.Memory > modelMemory-m.own[s].memory || req.GPUs > modelGPUs-m.own[s].gpus) {
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
	p, there := m.b.driver.Place(s)
	if !there {
		t.Fatalf("session %s has no place", s)
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
	m.adopt(t)
}

// adopt takes over who got the room of a session that ended. Its engines end one after the other, in any order, and each end
// serves the queue: which small requests were served before the room sufficed for a large one is not determined. But whoever
// was served stays so, and nobody waits who could be served now.
func (m *model) adopt(t *rapid.T) {
	synctest.Wait()
	for _, a := range m.asked {
		if !a.over && !a.holds {
			a.holds = m.b.engine(a.id).Status != "scheduling"
		}
	}
	before := map[*asked]bool{}
	for _, a := range m.asked {
		before[a] = a.holds
	}
	m.settle()
	for _, a := range m.asked {
		if a.holds != before[a] {
			t.Fatalf("%s waits, although there is room for it", a.id)
		}
	}
}

// check compares: whoever holds room runs, whoever waits is scheduling and says so, and no status ever went back.
func (m *model) check(t *rapid.T) {
	synctest.Wait()
	rest, free := m.without()
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
		}
		if w.Status != want || (want == "scheduling") != (text(w.K8s.Reason) == "Unschedulable") {
			t.Fatalf("%s is %s (%s), want %s", a.id, w.Status, text(w.K8s.Message), want)
		}
		if want == "scheduling" && strings.HasPrefix(text(w.K8s.Message), "waits for a session to end: ") == a.fits(rest) {
			t.Fatalf("%s wants %v GB, %d GPUs of %+v: %s", a.id, a.memory, a.gpus, rest, text(w.K8s.Message))
		}
		before := m.seen[a.id]
		if n := len(before); n == 0 || before[n-1] != w.Status {
			if n > 0 && !engine.Status(before[n-1]).CanBecome(engine.Status(w.Status)) {
				t.Fatalf("%s went from %s to %s", a.id, before[n-1], w.Status)
			}
			m.seen[a.id] = append(before, w.Status)
		}
	}
	if free.memory < 0 || free.gpus < 0 {
		t.Fatalf("more was given out than there is: %+v are left", free)
	}
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			gpus := []driver.GPU{{Index: 0}, {Index: 1}, {Index: 2}}
			b := newBench(t, capacity(manager.Capacity{MemoryBytes: modelMemory * 1e9, CPU: 1, GPUs: gpus}))
			b.t = rt // a failure shows the shortest way to it
			m := &model{b: b, own: map[engine.ID]amount{}, seen: map[string][]string{}}
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
