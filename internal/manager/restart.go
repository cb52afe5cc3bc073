package manager

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"muster/api"
	"muster/engine"
)

// maxOver bounds the batches whose engines have all ended and whose work is kept so that it can be started again. Together with
// that of living ones it has no more than maxWork: what ended first goes first.
const maxOver = 1000

var errForgotten = engine.Errorf(engine.Unavailable, "its code and environment are not kept any more: only those of what the session launched last are").
	WithHint("launch it anew")

// lessLocked is called when an engine of a batch, or somebody else, needs its work no longer.
func (s *session) lessLocked(b *batch) {
	if b.live--; b.live > 0 {
		return
	}
	if s.ending || b.role == engine.RoleSession {
		s.forgetLocked(b)
		return
	}
	s.over = append(s.over, b)
	s.shedLocked(0)
}

// holdLocked keeps the work of a batch from being forgotten until lessLocked is called; false if it is.
func (s *session) holdLocked(b *batch) bool {
	if b.work == nil {
		return false
	}
	if b.live++; b.live == 1 {
		s.over = slices.DeleteFunc(s.over, func(o *batch) bool { return o == b })
	}
	return true
}

// shedLocked forgets the oldest work that nothing lives of, as far as it must to hold some more bytes.
func (s *session) shedLocked(bytes int64) {
	n := 0
	for n < len(s.over) && (len(s.over)-n > maxOver || s.work+bytes > maxWork) {
		s.forgetLocked(s.over[n])
		n++
	}
	s.over = slices.Delete(s.over, 0, n)
}

func (s *session) forgetLocked(b *batch) {
	s.work -= b.size
	b.work, b.size = nil, 0
}

// forgetWorkLocked forgets all that nothing lives of: the session ends.
func (s *session) forgetWorkLocked() {
	for _, b := range s.over {
		s.forgetLocked(b)
	}
	s.over = nil
}

// Restart starts the work of workers again, as new workers; those that have not ended are stopped first, and their ends awaited.
// One description for each worker named, of one that cannot be started without id. The workers begin when release is called,
// after the reply was written.
func (m *Manager) Restart(ctx context.Context, id engine.ID, req api.Restart, by string) (reply api.Workers, release func(), err error) {
	nothing := func() {}
	s, err := m.session(id)
	if err != nil {
		return api.Workers{}, nothing, err
	}
	if err := checkIDs(req.IDs); err != nil {
		return api.Workers{}, nothing, err
	}
	if err := s.open(); err != nil {
		return api.Workers{}, nothing, err
	}
	again := s.holdWorks(req.IDs)
	defer s.letGo(again)
	if err := m.stopFirst(ctx, s, again, by); err != nil {
		return api.Workers{}, nothing, wrap("restart workers", err)
	}
	ws := s.startAgain(again)
	s.admitNew(ctx, ws)
	return s.restarted(ctx, again), sync.OnceFunc(func() { s.release(ws) }), nil
}

// restart is one worker that somebody restarts.
type restart struct {
	id    engine.ID // as it was asked for
	batch *batch    // nil: there is no such worker
	held  bool
	lives bool
	as    *worker
	err   error
}

// holdWorks finds the workers, each once however it is called, and keeps their work.
func (s *session) holdWorks(ids []string) []restart {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := make([]restart, 0, len(ids))
	seen := map[engine.ID]bool{}
	for _, id := range ids {
		a, key := restart{id: engine.ID(id)}, engine.ID(id)
		if w := s.byID[a.id]; w == nil {
			a.err = engine.Errorf(engine.NotFound, "no worker of this session has the id %q", shorten(id))
		} else {
			last := w.lastLocked()
			key, a.batch, a.lives = last.id, w.batch, !last.overLocked()
			if a.held = !seen[key] && s.holdLocked(w.batch); !a.held {
				a.err = errForgotten
			}
		}
		if !seen[key] {
			seen[key] = true
			again = append(again, a)
		}
	}
	return again
}

func (s *session) letGo(again []restart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range again {
		if a.held {
			s.lessLocked(a.batch)
		}
	}
}

// stopFirst stops those that live, and waits for their ends.
func (m *Manager) stopFirst(ctx context.Context, s *session, again []restart, by string) error {
	var live []string
	for _, a := range again {
		if a.lives && a.err == nil {
			live = append(live, string(a.id))
		}
	}
	if len(live) == 0 {
		return nil
	}
	if _, err := m.Stop(ctx, s.id, api.Stop{IDs: live}, by); err != nil {
		return err
	}
	_, err := m.Await(ctx, s.id, api.Await{IDs: live, Completion: true}, nil)
	return err
}

// startAgain enters the new workers, those of a batch together: each entry is recorded.
func (s *session) startAgain(again []restart) (ws []*worker) {
	of := map[*batch][]*restart{}
	for i := range again {
		if a := &again[i]; a.err == nil {
			of[a.batch] = append(of[a.batch], a)
		}
	}
	for i := range again {
		together := of[again[i].batch]
		if len(together) == 0 {
			continue
		}
		delete(of, again[i].batch)
		from := make([]lineage, len(together))
		for j, a := range together {
			from[j] = lineage{attempt: 1, restartOf: a.id}
		}
		entered, err := s.accept(again[i].batch, from)
		for j, a := range together {
			if a.err = err; err == nil {
				a.as = entered[j]
			}
		}
		ws = append(ws, entered...)
	}
	return ws
}

// restarted describes what became of them, and says in the console which could not be started.
func (s *session) restarted(ctx context.Context, again []restart) api.Workers {
	reply := api.Workers{Workers: make([]api.Worker, 0, len(again))}
	now, refusals := s.m.now(), map[string]int{}
	for _, a := range again {
		if a.err == nil {
			reply.Workers = append(reply.Workers, s.m.describe([]*worker{a.as})...)
			continue
		}
		b := cmp.Or(a.batch, &batch{role: engine.RoleWorker})
		message := refusal(a.err)
		refusals[message]++
		d := refused(b, s.site, s.id, message, now)
		d.RestartOf = string(a.id)
		reply.Workers = append(reply.Workers, d)
	}
	for _, message := range slices.Sorted(maps.Keys(refusals)) {
		s.noteRefused(ctx, &batch{}, refusals[message], message)
	}
	return reply
}
