package manager

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/failpoint"
)

// Retries. An engine ends in one final status, so each attempt is a worker of its own, of the same batch:
//
//	attempt 1 fails ─► retrying ─► attempt 2 is entered, paused ─► asks for room, in order ─► starts ─► …
//	                       └─ stopped, refused, or the session ends: attempt 1 was the last
//
// Whoever waits for an attempt that is followed by another waits for that one. What has to be known after a restart of the
// server are plain fields of batch and worker.

const (
	maxRetries = 1000
	// maxTimeLimit is ten years: far from what a clock's nanoseconds can count.
	maxTimeLimit = 10 * 365 * 24 * time.Hour
	// firstPause is the time between the first attempt and the second. Each is twice as long as the one before, up to
	// longestPause: a worker that fails at once must not keep the machine busy with starting it.
	firstPause   = 100 * time.Millisecond
	longestPause = 30 * time.Second
)

// terms are how long and how often the workers of a batch may run.
type terms struct {
	retries   int
	timeLimit time.Duration // for each attempt; 0: none
}

func termsOf(req api.LaunchWorkers) (terms, error) {
	limit := req.TimeLimit
	switch {
	case req.Retries < 0 || req.Retries > maxRetries:
		return terms{}, invalid("retries must be from 0 to %d, not %d", maxRetries, req.Retries)
	case !finite(limit) || limit < 0 || limit > maxTimeLimit.Seconds():
		return terms{}, invalid("timeout_seconds must be a number of seconds above 0 and at most ten years (%.0f), not %.15g", maxTimeLimit.Seconds(), limit)
	case limit == 0:
		return terms{retries: req.Retries}, nil
	}
	return terms{req.Retries, max(time.Duration(limit*1e9), 1)}, nil
}

// lineage says which other workers did, or do, the same work as this one.
type lineage struct {
	attempt   int       // from 1 on
	first     engine.ID // the first attempt; "": this is it
	previous  engine.ID // the attempt before; "": there is none
	restartOf engine.ID // the worker that somebody restarted as this one; "": nobody did
	retriedAs engine.ID // the next attempt; "": there is none
	retrying  bool      // there will be one
	paused    bool      // it asks for room at notBefore
	notBefore time.Time
}

// pauseBefore is how long an attempt waits, from the second on.
func pauseBefore(attempt int) time.Duration {
	p := firstPause
	for range attempt - 2 {
		if p *= 2; p >= longestPause {
			return longestPause
		}
	}
	return p
}

// pauseText says that it waits so.
func (w *worker) pauseText() string {
	return fmt.Sprintf("waits %s s before attempt %d of %d", number(pauseBefore(w.attempt).Seconds()), w.attempt, w.batch.retries+1)
}

// retryLocked reports whether an engine that ended so is to be tried again.
func (w *worker) retryLocked(why engine.Reason) bool {
	if w.retriedAs != "" { // an earlier process recorded the next attempt, and not this one's end any more
		return false
	}
	if w.batch.retries == 0 || w.attempt > w.batch.retries || w.session.ending || w.stopBy != "" || !w.stopping.IsZero() {
		return false
	}
	switch why {
	case engine.ReasonExitCode, engine.ReasonSignal, engine.ReasonOutOfMemory, engine.ReasonLaunchFailed, engine.ReasonTimeLimit:
		return true
	}
	return false
}

// overLocked reports whether the worker has ended and is not tried again.
func (w *worker) overLocked() bool { return w.status.Final() && !w.retrying }

// lastLocked is the last attempt that there is.
func (w *worker) lastLocked() *worker {
	for w.retriedAs != "" {
		w = w.session.byID[w.retriedAs]
	}
	return w
}

// ranLocked reports whether this attempt, or one that followed it, has run.
func (w *worker) ranLocked() bool {
	for w.running.IsZero() && w.retriedAs != "" {
		w = w.session.byID[w.retriedAs]
	}
	return !w.running.IsZero()
}

// giveUpLocked lets a worker that was to be tried again rest.
func (w *worker) giveUpLocked() {
	if w.retrying {
		w.retrying = false
		w.session.unrecordedLocked(w)
		w.session.lessLocked(w.batch)
		w.tellLocked()
	}
}

// stopTryingLocked gives up all of them: the session ends.
func (s *session) stopTryingLocked() {
	for _, w := range s.failed {
		w.giveUpLocked()
	}
	s.failed, s.paused = nil, nil
}

// tryAgain enters the next attempts of those that failed, of each batch together: each entry is recorded. Only the session's
// goroutine calls it, as it asks for addresses.
func (s *session) tryAgain() {
	s.mu.Lock()
	failed := s.failed
	s.failed = nil
	s.mu.Unlock()
	of := map[*batch][]*worker{}
	for _, w := range failed {
		of[w.batch] = append(of[w.batch], w)
	}
	for _, w := range failed {
		together := of[w.batch]
		delete(of, w.batch)
		if len(together) > 1 && s.try(together) == nil {
			continue
		}
		for _, one := range together { // one that was stopped meanwhile keeps no other from being tried
			s.refuseRetry(one, s.try([]*worker{one}))
		}
	}
}

// try enters the next attempt of each, all or none.
func (s *session) try(ws []*worker) error {
	from := make([]lineage, len(ws))
	for i, w := range ws {
		from[i] = lineage{
			attempt: w.attempt + 1, first: cmp.Or(w.first, w.id), previous: w.id, restartOf: w.restartOf,
			paused: true, notBefore: s.m.now().Add(pauseBefore(w.attempt + 1)),
		}
	}
	failpoint.Here("retry: before record")
	next, err := s.accept(ws[0].batch, from)
	failpoint.Here("retry: after record")
	for i, n := range next {
		s.note(s.m.ctx, api.Event{
			Type: "retry", Engine: string(n.id), RetryOf: string(ws[i].id), Name: n.batch.name, Role: string(engine.RoleWorker),
			Message: fmt.Sprintf("worker %s is tried again in %s s: attempt %d of %d, as %s",
				ws[i].called(), number(pauseBefore(n.attempt).Seconds()), n.attempt, n.batch.retries+1, n.id.Short()),
		})
	}
	return err
}

// refuseRetry gives up a worker whose next attempt could not be entered, and says so unless somebody wanted that.
func (s *session) refuseRetry(w *worker, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	told := w.retrying && !s.ending
	w.giveUpLocked()
	s.mu.Unlock()
	if told {
		s.note(s.m.ctx, api.Event{
			Type: "refused", Engine: string(w.id), Name: w.batch.name, Role: string(engine.RoleWorker),
			Message: fmt.Sprintf("worker %s is not tried again, attempt %d of %d is refused: %s", w.called(), w.attempt+1, w.batch.retries+1, refusal(err)),
		})
	}
}

// followLocked makes a worker that was just entered the next attempt of the one before it.
func (s *session) followLocked(next *worker) {
	w := s.byID[next.previous]
	w.retriedAs, w.retrying = next.id, false
	s.lessLocked(w.batch)
	next.waiters, w.waiters = append(next.waiters, w.waiters...), nil
	for _, a := range next.waiters {
		a.again = true
	}
	next.nudgeLocked()
	next.released = true
	s.pauseLocked(next)
}

// pauseLocked lets a worker ask for room when its pause is over.
func (s *session) pauseLocked(w *worker) {
	i := len(s.paused)
	for i > 0 && s.paused[i-1].notBefore.After(w.notBefore) {
		i--
	}
	s.paused = slices.Insert(s.paused, i, w)
}

// due is ready when the next pause is over; nil if there is none.
func (s *session) due() <-chan time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.paused) == 0 {
		return nil
	}
	return time.After(s.paused[0].notBefore.Sub(s.m.now()))
}

// resume asks for room for those whose pause is over.
func (s *session) resume() {
	var ws []*worker
	s.mu.Lock()
	now := s.m.now()
	for len(s.paused) > 0 && !s.paused[0].notBefore.After(now) {
		w := s.paused[0]
		s.paused = s.paused[1:]
		if w.status == engine.Scheduling { // else it was stopped
			w.paused = false
			w.nudgeLocked()
			ws = append(ws, w)
		}
	}
	s.mu.Unlock()
	if len(ws) > 0 {
		s.admitNew(s.m.ctx, ws)
	}
}

// called is the worker's name and id, for people.
func (w *worker) called() string {
	if w.batch.name == defaultWorkerName {
		return w.id.Short()
	}
	return w.batch.name + " (" + w.id.Short() + ")"
}

func describeLineage(d *api.Worker, v view) {
	d.RestartOf = string(v.restartOf)
	if v.Batch.retries > 0 {
		d.Attempt, d.RetryOf, d.RetriedAs = v.attempt, string(v.first), string(v.retriedAs)
	}
}
