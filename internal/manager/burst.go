package manager

import (
	"time"

	"muster/engine"
	"muster/internal/driver"
)

// A burst is many workers of a kind that has no zygote yet, beyond those for which engines wait. Each would import the same. So they stay
// scheduled until there is a zygote, from which they are forked, or until it turns out that there will be none:
//
//	pending ─► held ─► pending, when the zygote is ready, cannot be, or is late
//
// A kind of which one could not be, or was late, is held no more in this session. One that is stopped meanwhile has never started.

const (
	// burst is of how many workers.
	burst = 4
	// burstWaits is how long at most.
	burstWaits = 10 * time.Second
)

// heldText is why a worker that has its room is scheduling.
const heldText = "waits until what workers like it import is imported, once for all of them"

// forkable reports whether a zygote would be of use to a worker that is pending. The caller holds the session's mu.
func (w *worker) forkable() bool {
	return w.status == engine.Scheduling && !w.seated && len(w.ticket.cores) == 0 && w.batch.work.forks(w.kind)
}

// forks reports whether engines of that kind, which is this work's, can be forked where the driver can do that.
func (w *work) forks(kind driver.Kind) bool {
	return kind != (driver.Kind{}) && w != nil && w.command.Ahead != nil && len(w.command.Ahead.Fork) > 0
}

// heldLocked reports whether a pending worker waits for its kind's zygote. The caller holds mu.
func (s *session) heldLocked(w *worker) bool { return s.bursts[w.kind] && w.forkable() }

// holdBursts has zygotes made for bursts among those that are pending, and these wait.
func (s *session) holdBursts() {
	warm := s.warmer()
	if warm == nil {
		return
	}
	type like struct {
		one      *worker
		work     *work
		n, alone int // all that are pending, and those for which nobody waits
	}
	s.mu.Lock()
	from, found := s.origin, map[driver.Kind]*like{}
	for _, w := range s.pending {
		if _, known := s.bursts[w.kind]; known || w.status != engine.Scheduling || !w.batch.work.forks(w.kind) {
			continue
		}
		of := found[w.kind]
		if of == nil {
			of = &like{one: w, work: w.batch.work}
			found[w.kind] = of
		}
		if of.n++; w.forkable() {
			of.alone++
		}
	}
	s.mu.Unlock()
	for kind, of := range found {
		if of.alone < burst || from == nil || warm.Forks(kind) {
			continue
		}
		s.keepWarm(of.one.batch, of.work, from, of.n, true) // not where others wait for zygotes of mostKinds: then it has none
		if made := warm.Zygote(kind); made != nil {
			s.mu.Lock()
			s.bursts[kind] = true
			s.mu.Unlock()
			s.m.group.Go(func() { s.hold(kind, made) })
		}
	}
}

// hold lets workers of a kind go when its zygote is made, or late.
func (s *session) hold(kind driver.Kind, made <-chan struct{}) {
	late := time.NewTimer(burstWaits)
	defer late.Stop()
	ready := false
	select {
	case <-made:
		ready = s.warmer().Forks(kind)
	case <-late.C:
	case <-s.done:
		return
	case <-s.m.ctx.Done():
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bursts[kind] = false
	if ready { // a later burst may wait for another one, when this one is gone
		delete(s.bursts, kind)
	}
	s.wakeLocked()
}
