package manager_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
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
	asked    []*asked             // all attempts, in order of asking; those in a pause have not asked yet
	seen     map[string][]string
	limits   time.Duration // makes each time limit another one: what happens at the same instant has no order
	apart    bool          // no two launches happen at the same instant: their order must be known to a later server
}

type amount struct {
	memory float64
	gpus   int
}

// order is what a launch asks for.
type order struct {
	session engine.ID
	group   string
	memory  float64
	gpus    int
	deaf    bool // to SIGTERM
	retries int
	limit   time.Duration // 0: none
}

// asked is one attempt.
type asked struct {
	*order
	id       string
	attempt  int
	next     *asked    // the attempt after it
	paused   bool      // until due
	due      time.Time // when it asks for room
	holds    bool
	began    time.Time // since when it holds room, and runs
	stopping bool
	over     bool
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
func (m *model) settle(now time.Time) {
	rest, free := m.without()
	for _, a := range m.asked {
		switch {
		case a.holds || a.over || a.paused || !a.fits(rest):
		case !a.fits(free):
			return
		default:
			a.holds, a.began = true, now
			free.memory -= a.memory
			free.gpus -= a.gpus
		}
	}
}

func (m *model) finish(a *asked) { a.holds, a.paused, a.over = false, false, true }

// fail ends an attempt that nobody asked to end; there may be another one.
func (m *model) fail(a *asked, at time.Time) {
	m.finish(a)
	if a.attempt > a.retries || a.stopping {
		return
	}
	a.next = &asked{
		order: a.order, id: m.b.engine(a.id).RetriedAs, attempt: a.attempt + 1, paused: true,
		due: at.Add(100 * time.Millisecond << (a.attempt - 1)),
	}
	m.asked = append(m.asked, a.next)
}

// happens is when something happens to an attempt by itself; the zero time if nothing does.
func (a *asked) happens() time.Time {
	switch {
	case a.paused:
		return a.due
	case !a.holds || a.limit == 0 || a.stopping:
		return time.Time{}
	case a.deaf:
		return a.began.Add(a.limit + 2*time.Second)
	}
	return a.began.Add(a.limit)
}

// advance lets happen what has happened by itself until now, in its order.
func (m *model) advance(then func(time.Time)) {
	synctest.Wait()
	for {
		var first *asked
		for _, a := range m.asked {
			if at := a.happens(); !at.IsZero() && !at.After(time.Now()) && (first == nil || at.Before(first.happens())) {
				first = a
			}
		}
		if first == nil {
			return
		}
		at := first.happens()
		if first.paused { // it asks now
			first.paused = false
			m.asked = append(slices.DeleteFunc(m.asked, func(a *asked) bool { return a == first }), first)
		} else {
			m.fail(first, at)
		}
		then(at)
	}
}

func (m *model) pass(t *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{50 * time.Millisecond, 150 * time.Millisecond, time.Second, time.Minute}).Draw(t, "time"))
	m.advance(m.settle)
}

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
		m.settle(time.Now())
	}
}

// moment lets a moment pass that nothing else is a multiple of.
func (m *model) moment() {
	if m.apart {
		time.Sleep(1037 * time.Microsecond)
		m.advance(m.settle)
	}
}

func (m *model) launch(t *rapid.T) {
	s := m.anySession(t)
	m.moment()
	o := &order{
		session: s, memory: float64(rapid.IntRange(1, modelMemory+1).Draw(t, "memory")), gpus: rapid.IntRange(0, modelGPUs).Draw(t, "gpus"),
		group: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "group"), deaf: rapid.Bool().Draw(t, "deaf"), retries: rapid.IntRange(0, 2).Draw(t, "retries"),
	}
	n := rapid.IntRange(0, 4).Draw(t, "n")
	if rapid.Bool().Draw(t, "limited") { // alone: those of one launch would end at the same instant
		m.limits += time.Millisecond
		n, o.limit = min(n, 1), 20*time.Second+m.limits
	}
	req := api.LaunchWorkers{
		N: n, CPU: 1, Memory: o.memory, GPUs: o.gpus, Group: o.group, Retries: o.retries, TimeLimit: o.limit.Seconds(),
		Code: "print began\n" + map[bool]string{false: "hang", true: "ignore-term\nhang"}[o.deaf],
	}
	ws := m.b.launch(o.session, req)
	if len(ws) != req.N {
		t.Fatalf("%d descriptions for n=%d", len(ws), req.N)
	}
	for _, w := range ws {
		if refused := w.ID == ""; refused != (req.Memory > modelMemory-m.own[o.session].memory || req.GPUs > modelGPUs-m.own[o.session].gpus) {
			t.Fatalf("memory %v: %+v", req.Memory, w)
		}
		if w.ID != "" {
			m.asked = append(m.asked, &asked{order: o, id: w.ID, attempt: 1})
		}
	}
	m.settle(time.Now())
}

// end takes over that attempts were stopped and have ended: those that wait at once, those that are deaf last.
func (m *model) end(all ...*asked) {
	for _, a := range all {
		a.stopping = true
		if !a.holds {
			m.finish(a)
		}
	}
	m.settle(time.Now())
	for _, a := range all {
		if !a.deaf {
			m.finish(a)
		}
	}
	m.settle(time.Now())
	m.advance(m.settle)
	for _, a := range all {
		m.finish(a)
	}
	m.settle(time.Now())
}

func (m *model) stop(t *rapid.T) {
	a := m.live(t)
	m.b.stop(a.session, a.id)
	m.b.awaitEnd(a.session, a.id)
	m.end(a)
}

func (m *model) stopGroup(t *rapid.T) {
	a := m.live(t)
	if a.group == "" {
		t.Skip("it has no group")
	}
	if _, err := m.b.Stop(context.Background(), a.session, api.Stop{Group: a.group}, "session"); err != nil {
		t.Fatal(err)
	}
	m.b.await(a.session, api.Await{Group: a.group, Completion: true})
	m.end(slices.DeleteFunc(slices.Clone(m.asked), func(o *asked) bool { return o.over || o.session != a.session || o.group != a.group })...)
}

// restart starts the work of a worker again that lives or has ended, called by any of its attempts.
func (m *model) restart(t *rapid.T) {
	there := slices.DeleteFunc(slices.Clone(m.asked), func(a *asked) bool { return !slices.Contains(m.sessions, a.session) })
	if len(there) == 0 {
		t.Skip("nobody was there")
	}
	a := rapid.SampledFrom(there).Draw(t, "worker")
	m.moment()
	last := a
	for last.next != nil {
		last = last.next
	}
	ws := m.b.restart(a.session, a.id)
	if len(ws) != 1 || ws[0].ID == "" || ws[0].RestartOf != a.id || ws[0].Group != a.group {
		t.Fatalf("restart of %s: %+v", a.id, ws)
	}
	if !last.over {
		m.end(last)
	}
	m.asked = append(m.asked, &asked{order: a.order, id: ws[0].ID, attempt: 1})
	m.settle(time.Now())
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
	synctest.Wait()
	m.fail(a, time.Now())
	m.settle(time.Now())
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
			a.stopping = true
			m.finish(a)
		}
	}
	m.advance(func(time.Time) {})
	m.adopt(t)
}

// adopt takes over who got the room of a session that ended. Its engines end one after the other, in any order, and each end
// serves the queue: which small requests were served before the room sufficed for a large one is not determined. But whoever
// was served stays so, and nobody waits who could be served now.
func (m *model) adopt(t *rapid.T) {
	synctest.Wait()
	for _, a := range m.asked {
		if a.over || a.holds || a.paused {
			continue
		}
		if w := m.b.engine(a.id); w.RunningAt != nil {
			a.holds = true
			a.began, _ = time.Parse(time.RFC3339, *w.RunningAt)
		}
	}
	before := map[*asked]bool{}
	for _, a := range m.asked {
		before[a] = a.holds
	}
	m.settle(time.Now())
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
		if last := m.b.awaited(a); last != w.ID && a.next == nil || a.next != nil && (w.RetriedAs != a.next.id || m.b.engine(a.next.id).Attempt != a.next.attempt) {
			t.Fatalf("attempt %d of %s: it was tried again as %q, whoever awaits it gets %s", a.attempt, a.id, w.RetriedAs, last)
		}
		if paused := strings.HasPrefix(text(w.K8s.Message), "waits 0."); paused != (a.paused && !a.over) {
			t.Fatalf("%s is in a pause: %v, and says %q", a.id, a.paused, text(w.K8s.Message))
		}
		if want == "scheduling" && !a.paused && strings.HasPrefix(text(w.K8s.Message), "waits for a session to end: ") == a.fits(rest) {
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

// awaited is the id of the attempt that an await of this one is told of.
func (b *bench) awaited(a *asked) string {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result, err := b.Await(ctx, a.session, api.Await{IDs: []string{a.id}, Completion: true, Timeout: 1e-9}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r := result()
	return append(r.Workers, r.Failures...)[0].ID
}

func (m *model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"session": m.createSession, "launch": m.launch, "stop": m.stop, "stop group": m.stopGroup, "kill": m.kill,
		"restart": m.restart, "time": m.pass, "end": m.endSession, "": m.check,
	}
}

// once fails if an attempt began more than once, or one that ran did not begin.
func (m *model) once(t *rapid.T) {
	for _, a := range m.asked {
		ran := m.b.engine(a.id).RunningAt != nil
		if n := strings.Count(m.b.output(a.session, a.id, console.Stdout), "began\n"); n > 1 || ran && n == 0 {
			t.Fatalf("attempt %d of %s began %d times", a.attempt, a.id, n)
		}
	}
}

// TestAgainstModelWithKills is TestAgainstModel where servers are killed, and others take up what they left: what the model
// expects is the same.
func TestAgainstModelWithKills(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			gpus := []driver.GPU{{Index: 0}, {Index: 1}, {Index: 2}}
			l := newLives(t, capacity(manager.Capacity{MemoryBytes: modelMemory * 1e9, CPU: 1, GPUs: gpus}))
			l.bench.t = rt
			m := &model{b: l.bench, own: map[engine.ID]amount{}, seen: map[string][]string{}, apart: true}
			actions := m.actions()
			actions["server"] = func(t *rapid.T) {
				if found := l.restart(); found.Adopted != len(m.sessions) || len(found.Lost)+len(found.Orphans) > 0 {
					t.Fatalf("%d sessions live, found: %+v", len(m.sessions), found)
				}
			}
			rt.Repeat(actions)
			m.once(rt)
			for len(m.sessions) > 0 {
				m.endSession(rt)
			}
			l.restart()
			m.check(rt)
			s := l.session()
			l.launch(s, api.LaunchWorkers{N: 1, CPU: 1, Memory: modelMemory, GPUs: modelGPUs, Code: "hang"})
			if a := l.awaitRunning(s); len(a.Workers) != 1 {
				t.Errorf("room was lost: %+v", a)
			}
		})
	})
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			gpus := []driver.GPU{{Index: 0}, {Index: 1}, {Index: 2}}
			b := newBench(t, capacity(manager.Capacity{MemoryBytes: modelMemory * 1e9, CPU: 1, GPUs: gpus}))
			b.t = rt // a failure shows the shortest way to it
			m := &model{b: b, own: map[engine.ID]amount{}, seen: map[string][]string{}}
			rt.Repeat(m.actions())
			m.once(rt)
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
