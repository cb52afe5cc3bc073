package manager

import (
	"context"
	"math"
	"slices"
	"time"

	"muster/api"
	"muster/engine"
)

// maxAwaited bounds what engines make the server keep by waiting: workers, each for every Await that covers it. It is some
// 60 MB, and forty times what the largest session needs that waits once.
const maxAwaited = 2_000_000

// waiter is one Await. The workers that it covers count themselves off it as they change: nobody polls, and a change costs
// the same however many are awaited.
type waiter struct {
	completion bool
	news       chan struct{} // buffered: something changed
	done       int           // session.mu: workers that reached it, or never will
	again      bool          // session.mu: one that had its room waits once more
}

// tellLocked counts the worker off all waiters for which it is decided.
func (w *worker) tellLocked() {
	rest := w.waiters[:0]
	for _, a := range w.waiters {
		if !w.decidedLocked(a.completion) {
			rest = append(rest, a)
			continue
		}
		a.done++
		a.nudge()
	}
	clear(w.waiters[len(rest):])
	w.waiters = rest
}

// nudge makes the waiter look.
func (a *waiter) nudge() {
	select {
	case a.news <- struct{}{}:
	default: // it has not looked yet
	}
}

// nudgeLocked makes all waiters look: the worker has its room.
func (w *worker) nudgeLocked() {
	for _, a := range w.waiters {
		a.nudge()
	}
}

// decidedLocked reports whether the worker has reached what is awaited, or never will.
func (w *worker) decidedLocked(completion bool) bool {
	if completion {
		return w.overLocked()
	}
	return !w.running.IsZero() || w.status == engine.Stopping || w.overLocked()
}

// awaited is one worker of an Await: its last attempt when the wait began, which stands for those that follow.
type awaited struct {
	worker *worker
	could  bool // it had not ended, nor begun to, when the wait began
}

func (a awaited) reachedLocked(completion bool) bool {
	if completion {
		return a.worker.lastLocked().status == engine.Succeeded
	}
	return a.could && a.worker.ranLocked()
}

// Await blocks until each worker that req covers reached what is awaited or never will, the timeout passed or ctx ended. The
// descriptions are made when result is called: there may be many, and whoever sends them may have to wait for that.
func (m *Manager) Await(ctx context.Context, id engine.ID, req api.Await, progress func(api.AwaitProgress)) (result func() api.Awaited, err error) {
	s, err := m.session(id)
	if err != nil {
		return nil, err
	}
	if !finite(req.Timeout) || req.Timeout < 0 {
		return nil, invalid("timeout_seconds must be 0 (no timeout) or more, not %v", req.Timeout)
	}
	if err := checkIDs(req.IDs); err != nil {
		return nil, err
	}
	if err := checkWhom(req.IDs, req.Group); err != nil {
		return nil, err
	}
	a := &waiter{completion: req.Completion, news: make(chan struct{}, 1)}
	targets, strangers, err := s.join(a, req)
	if err != nil {
		return nil, err
	}
	defer s.leave(a, targets)
	if err := s.wait(ctx, a, targets, timeout(req.Timeout), progress); err != nil {
		return nil, err
	}
	return func() api.Awaited { return s.result(a, targets, strangers) }, nil
}

// join finds the workers, each once, in the order asked or in launch order, and enters the waiter with those that are not
// decided yet.
func (s *session) join(a *waiter, req api.Await) (targets []awaited, strangers []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.hasGroupLocked(req.Group); err != nil {
		return nil, nil, err
	}
	var ws []*worker
	if req.All || len(req.IDs) == 0 {
		ws = s.lastOfLocked(req.Group)
	} else {
		seen, known := map[string]bool{}, map[*worker]bool{}
		for _, id := range req.IDs {
			w := s.byID[engine.ID(id)]
			switch {
			case w == nil && !seen[id]:
				seen[id] = true
				strangers = append(strangers, id)
			case w != nil && !known[w.lastLocked()]:
				known[w.lastLocked()] = true
				ws = append(ws, w.lastLocked())
			}
		}
	}
	if s.awaited += len(ws); s.awaited > maxAwaited {
		s.awaited -= len(ws)
		return nil, nil, engine.Errorf(engine.Unavailable, "too many waits at once for the workers of session %s", s.id.Short()).
			WithHint("let one of its engines wait for them")
	}
	targets = make([]awaited, 0, len(ws))
	for _, w := range ws {
		targets = append(targets, awaited{w, w.status != engine.Stopping && !w.overLocked()})
		if w.decidedLocked(a.completion) {
			a.done++
		} else {
			w.waiters = append(w.waiters, a)
		}
	}
	return targets, strangers, nil
}

// leave takes the waiter out of the workers that it still waits for.
func (s *session) leave(a *waiter, targets []awaited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaited -= len(targets)
	if a.done == len(targets) {
		return
	}
	for _, t := range targets {
		w := t.worker.lastLocked()
		for i, other := range w.waiters {
			if other == a {
				last := len(w.waiters) - 1
				w.waiters[i] = w.waiters[last]
				w.waiters[last] = nil
				w.waiters = w.waiters[:last]
				break
			}
		}
	}
}

// timeout is 0 for none; longer than anybody's life is none.
func timeout(seconds float64) time.Duration {
	if seconds > math.MaxInt64/1e9/2 {
		return 0
	}
	return time.Duration(math.Ceil(seconds * 1e9))
}

// wait returns nil when all are decided or the time is over, else why ctx ended.
func (s *session) wait(ctx context.Context, a *waiter, targets []awaited, limit time.Duration, progress func(api.AwaitProgress)) error {
	var over <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		over = t.C
	}
	told, waits := api.AwaitProgress{Done: -1}, 0
	for {
		s.mu.Lock()
		done := a.done
		if done == len(targets) { // the result says so
			s.mu.Unlock()
			return nil
		}
		var waiting *worker
		if a.again {
			a.again, waits = false, 0
		}
		for ; waits < len(targets); waits++ { // who has its room keeps it: no need to look from the beginning again
			if w := targets[waits].worker.lastLocked(); w.status == engine.Scheduling && !w.admitted {
				waiting = w
				break
			}
		}
		pause := ""
		if waiting != nil && waiting.paused {
			pause = waiting.pauseText()
		}
		s.mu.Unlock()
		var changed <-chan struct{} // nil: nobody wants to know
		if progress != nil {
			p := api.AwaitProgress{Done: done, Of: len(targets)}
			switch {
			case pause != "":
				p.Waiting = pause
			case waiting != nil:
				p.Waiting, changed = s.m.room.watch(&waiting.ticket)
			}
			if p != told {
				progress(p)
				told = p
			}
		}
		select {
		case <-a.news:
		case <-changed:
		case <-over:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// result describes the workers as they are now.
func (s *session) result(a *waiter, targets []awaited, strangers []string) api.Awaited {
	r := api.Awaited{Workers: []api.Worker{}, Failures: []api.Worker{}}
	now, st := s.m.now(), s.m.room.standing()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range targets {
		d := describe(t.worker.lastLocked().viewLocked(st), s.site, now)
		if t.reachedLocked(a.completion) {
			r.Workers = append(r.Workers, d)
		} else {
			r.Failures = append(r.Failures, d)
		}
	}
	for _, id := range strangers {
		r.Failures = append(r.Failures, unknown(id, s.site, s.id))
	}
	return r
}

// Workers lists the session's workers, newest first: all, or those of a group.
func (m *Manager) Workers(id engine.ID, group string) (api.Workers, error) {
	s, err := m.session(id)
	if err != nil {
		return api.Workers{}, err
	}
	s.mu.Lock()
	ws := make([]*worker, 0, len(s.workers))
	for _, w := range slices.Backward(s.workers) {
		if w.isIn(group) {
			ws = append(ws, w)
		}
	}
	s.mu.Unlock()
	return api.Workers{Workers: m.describe(ws)}, nil
}
