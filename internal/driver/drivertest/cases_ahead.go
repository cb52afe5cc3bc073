package drivertest

import (
	"sync/atomic"

	"muster/engine"
	"muster/internal/driver"
)

var aheadCases = []testCase{
	{"ahead: nobody hears of those that wait", "Ahead", aheadUnheard},
	{"ahead: those that are taken are made up for", "Ahead", aheadRefilled},
	{"ahead: fewer are wanted", "Ahead", aheadFewer},
	{"ahead: a seat that is released", "Ahead", aheadReleased},
	{"ahead: work for another kind of engine", "Ahead", aheadUnfit},
	{"ahead: one that ends without having taken its work", "Ahead", aheadDeclined},
	{"ahead: an interpreter that never waits", "Ahead", aheadNever},
	{"ahead: kinds that differ in threads alone", "Ahead", aheadThreads},
}

func (p *place) warm(n int) { p.warmKind(aheadKind, n) }

func (p *place) warmKind(kind driver.Kind, n int) {
	p.t.Helper()
	was := p.w.how
	p.w.how = cold
	spec := p.worker(Print{"never"})
	p.s.Release(spec.Address)
	p.w.how = was
	p.s.(driver.Warmer).Warm(kind, n, func(s driver.Seat) driver.Spec { return p.aheadOf(spec, s) })
}

// takeSeat makes a worker's spec for an engine that waits.
func (p *place) takeSeat(steps ...Step) driver.Spec {
	p.t.Helper()
	seats := p.s.(driver.Warmer).Take(aheadKind, 1)
	if len(seats) != 1 {
		p.t.Fatalf("%d seats, want 1", len(seats))
	}
	return p.sit(seats[0], aheadKind, steps...)
}

func (p *place) sit(seat driver.Seat, kind driver.Kind, steps ...Step) driver.Spec {
	p.t.Helper()
	was := p.w.how
	p.w.how = cold
	spec := p.worker(steps...)
	p.w.how = was
	p.s.Release(spec.Address)
	spec.ID, spec.Address, spec.Hostname, spec.Work = seat.ID, seat.Address, string(seat.ID), aheadWork(spec)
	spec.Work.Kind = kind
	return spec
}

// They are in no list of a later server's, and end with the one that wanted them.
func aheadUnheard(w *world) {
	p := w.open()
	p.startMain()
	idle := w.f.Count()
	p.warm(2)
	p.awaitWaiting(2)
	p.s.(driver.Warmer).Warm(aheadKind, 0, nil)
	w.checkNothingLeft(idle)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.seen {
		if o.Engine != "" && o.Engine != p.main.ID {
			w.t.Errorf("observed: %+v", o)
		}
	}
}

func aheadRefilled(w *world) {
	p := w.open()
	p.startMain()
	p.warm(2)
	for range 3 {
		p.awaitWaiting(2)
		specs := []driver.Spec{p.takeSeat(Print{"one"}, Exit{3}), p.takeSeat(Print{"two"}, Exit{4})}
		p.start(specs...)
		expectExit(w, p.awaitExit(specs[0].ID), engine.ReasonExitCode, 3, 0)
		expectExit(w, p.awaitExit(specs[1].ID), engine.ReasonExitCode, 4, 0)
		p.expectStdout(specs[0].ID, "one\n")
		p.expectStdout(specs[1].ID, "two\n")
	}
	if seats := p.s.(driver.Warmer).Take(driver.Kind{Name: "another"}, 1); len(seats) != 0 {
		w.t.Errorf("seats of a kind of which nobody waits: %v", seats)
	}
}

func aheadFewer(w *world) {
	p := w.open()
	p.startMain()
	p.warm(1)
	p.awaitWaiting(1)
	idle := w.f.Count()
	p.warm(3)
	p.awaitWaiting(3)
	p.warm(1)
	w.checkNothingLeft(idle)
	p.awaitWaiting(1)
	spec := p.takeSeat(Print{"done"}) // which is not one of those that were dropped
	p.start(spec)
	expectExit(w, p.awaitExit(spec.ID), engine.ReasonSucceeded, 0, 0)
	p.expectStdout(spec.ID, "done\n")
}

func aheadReleased(w *world) {
	p := w.open()
	p.startMain()
	idle := w.f.Count()
	p.warm(1)
	p.awaitWaiting(1)
	seats := p.s.(driver.Warmer).Take(aheadKind, 1)
	p.s.(driver.Warmer).Warm(aheadKind, 0, nil)
	p.s.Release(seats[0].Address)
	w.checkNothingLeft(idle)
}

// Where another kind of interpreter waits, the work is done by one that is started in its place, under the same id and at the same address.
func aheadUnfit(w *world) {
	p := w.open()
	p.startMain()
	p.warm(1)
	p.awaitWaiting(1)
	spec := p.takeSeat(Print{"done"})
	spec.Work = nil
	p.start(spec)
	expectExit(w, p.awaitExit(spec.ID), engine.ReasonSucceeded, 0, 0)
	p.expectStdout(spec.ID, "done\n")
}

func aheadDeclined(w *world) {
	p := w.open()
	p.startMain()
	p.warm(1)
	p.awaitWaiting(1)
	spec := p.takeSeat(Print{"done"}, Exit{5})
	spec.Work = &driver.Work{Kind: aheadKind} // without bytes, which makes it end
	p.start(spec)
	expectExit(w, p.awaitExit(spec.ID), engine.ReasonExitCode, 5, 0)
	p.expectStdout(spec.ID, "done\n")
	if n := p.observed(driver.Started, spec.ID); n != 1 {
		w.t.Errorf("observed to start %d times", n)
	}
}

// It is given up after a few tries, and nothing of it stays.
func aheadNever(w *world) {
	p := w.open()
	p.startMain()
	idle := w.f.Count()
	p.warm(1)
	p.awaitWaiting(1)
	p.s.(driver.Warmer).Warm(aheadKind, 0, nil)
	never := p.worker(Exit{1})
	var tries atomic.Int64
	p.s.(driver.Warmer).Warm(driver.Kind{Name: "never"}, 1, func(s driver.Seat) driver.Spec {
		tries.Add(1)
		spec := never
		spec.ID, spec.Address, spec.Hostname = s.ID, s.Address, string(s.ID)
		return spec
	})
	p.s.Release(never.Address)
	if !waitFor(func() bool { return tries.Load() > 1 }) {
		w.t.Errorf("it was tried %d times", tries.Load())
	}
	if n := p.s.(driver.Warmer).Waiting(driver.Kind{Name: "never"}); n != 0 {
		w.t.Errorf("%d wait", n)
	}
	p.s.(driver.Warmer).Warm(driver.Kind{Name: "never"}, 0, nil)
	w.checkNothingLeft(idle)
	if n := tries.Load(); n > 5 {
		w.t.Errorf("it was tried %d times", n)
	}
}

// Forked ones take each other's work, and bare ones, after what waits for just that. What forks for several kinds does so as long as one of
// them is wanted.
func aheadThreads(w *world) {
	p := w.open()
	p.startMain()
	idle := w.f.Count()
	warmer := p.s.(driver.Warmer)
	for _, bare := range []bool{false, true} {
		one := driver.Kind{Name: "with threads", Threads: "1", Bare: bare}
		two := driver.Kind{Name: "with threads", Threads: "2", Bare: bare}
		p.warmKind(one, 1)
		p.awaitKind(one, 1)
		seats := warmer.Take(two, 1)
		if shared := bare || w.how == forked; len(seats) != 1 && shared || len(seats) != 0 && !shared {
			w.t.Errorf("bare %v: a place for work with other threads: %v", bare, seats)
		}
		for _, seat := range seats {
			spec := p.sit(seat, two, Print{"done"}, Exit{2})
			p.start(spec)
			expectExit(w, p.awaitExit(spec.ID), engine.ReasonExitCode, 2, 0)
			p.expectStdout(spec.ID, "done\n")
		}
		p.awaitKind(one, 1)
		p.warmKind(two, 1)
		p.awaitKind(two, 1)
		p.awaitKind(one, 1)
		if warmer.Forks(one) != (w.how == forked) || warmer.Forks(two) != (w.how == forked) {
			w.t.Errorf("bare %v: forked: %v and %v", bare, warmer.Forks(one), warmer.Forks(two))
		}
		first := warmer.Take(two, 1)
		if len(first) != 1 || warmer.Waiting(one) != 1 {
			w.t.Fatalf("bare %v: %v of its own kind, and %d of the other wait", bare, first, warmer.Waiting(one))
		}
		warmer.Warm(one, 0, nil)
		if warmer.Forks(two) != (w.how == forked) {
			w.t.Errorf("bare %v: forked when the other is not wanted: %v", bare, warmer.Forks(two))
		}
		p.awaitKind(two, 1)
		spec := p.sit(first[0], two, Print{"done"})
		p.start(spec)
		expectExit(w, p.awaitExit(spec.ID), engine.ReasonSucceeded, 0, 0)
		warmer.Warm(two, 0, nil)
		w.checkNothingLeft(idle)
	}
}
