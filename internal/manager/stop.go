package manager

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"muster/api"
	"muster/engine"
	"muster/internal/failpoint"
)

// stopsAtOnce is how many stops are asked of the driver at the same time.
const stopsAtOnce = 8

// Stop ends workers: those that still wait for room end at once, the others get SIGTERM, and SIGKILL if they have not ended
// after stopGrace. It returns when all ends have begun, not when they are over.
func (m *Manager) Stop(ctx context.Context, id engine.ID, req api.Stop, by string) (api.Stopped, error) {
	s, err := m.session(id)
	if err != nil {
		return api.Stopped{}, err
	}
	if err := checkIDs(req.IDs); err != nil {
		return api.Stopped{}, err
	}
	if err := checkWhom(req.IDs, req.Group); err != nil {
		return api.Stopped{}, err
	}
	reply := api.Stopped{Results: []api.StopResult{}}
	var ask, dropped, taken []*worker
	var answered <-chan struct{}
	s.change(func(fx *effects) {
		if err = s.hasGroupLocked(req.Group); err != nil {
			return
		}
		for _, w := range s.stopTargetsLocked(req, &reply) {
			switch s.stopLocked(w, by, fx) {
			case askDriver:
				ask = append(ask, w)
			case neverStarted:
				dropped = append(dropped, w)
			case justTaken:
				taken = append(taken, w)
			}
		}
		answered = s.taking
	})
	if err != nil {
		return api.Stopped{}, err
	}
	for _, w := range dropped {
		s.place.Release(w.addr)
	}
	// Else a later server might start them, or try them again. Where it fails, they are stopped all the same.
	failpoint.Here("stop: before record")
	s.m.problem("record what was stopped in session "+s.id.Short(), s.recordEnds())
	return reply, wrap("stop workers", errors.Join(s.stopAll(ctx, ask, by), s.awaitTaken(ctx, taken, answered)))
}

// awaitTaken returns when the driver has workers that it was just taking, and session.started has asked it to stop them: a later
// server would not know that somebody wanted that.
func (s *session) awaitTaken(ctx context.Context, ws []*worker, answered <-chan struct{}) error {
	if len(ws) == 0 {
		return nil
	}
	select {
	case <-answered:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range ws {
		if !w.accepted && !w.status.Final() {
			return engine.Errorf(engine.Unavailable, "the server lets go of worker %s, which is just being started", w.id.Short()).
				WithHint("ask the next server")
		}
	}
	return nil
}

// stopTargetsLocked finds the workers and writes a result for each id.
func (s *session) stopTargetsLocked(req api.Stop, reply *api.Stopped) []*worker {
	var ws []*worker
	if req.All || req.Group != "" {
		for _, w := range s.workers {
			if w.isIn(req.Group) && w.retriedAs == "" && !w.overLocked() {
				ws = append(ws, w)
				reply.Results = append(reply.Results, api.StopResult{ID: string(w.id), Status: http.StatusNoContent})
			}
		}
		return ws
	}
	seen := map[*worker]bool{}
	for _, id := range req.IDs {
		status := http.StatusNotFound
		if w := s.byID[engine.ID(id)]; w != nil {
			status = http.StatusNoContent
			w = w.lastLocked()
			if !seen[w] {
				seen[w] = true
				ws = append(ws, w)
			}
		}
		reply.Results = append(reply.Results, api.StopResult{ID: id, Status: status})
	}
	return ws
}

type stopStep int

const (
	nothingToDo stopStep = iota
	askDriver
	neverStarted
	justTaken
)

// stopLocked does what can be done of a stop without the driver.
func (s *session) stopLocked(w *worker, by string, fx *effects) stopStep {
	now := s.m.now()
	switch {
	case w.status.Final():
		w.giveUpLocked()
		return nothingToDo
	case w.status == engine.Scheduling:
		w.finishLocked(engine.Exit{Reason: engine.ReasonStopped, By: by, Message: "stopped by " + by + " before it started", At: now}, now)
		fx.freed = append(fx.freed, &w.ticket)
		return neverStarted
	case !w.accepted:
		w.stopBy = by // the driver is just taking it: session.started goes on
		w.becomeLocked(engine.Stopping, now)
		return justTaken
	}
	w.becomeLocked(engine.Stopping, now)
	return askDriver
}

// stopAll asks the driver. An engine that has ended meanwhile was stopped as well as any.
func (s *session) stopAll(ctx context.Context, ws []*worker, by string) error {
	errs := make([]error, len(ws))
	slots := make(chan struct{}, stopsAtOnce)
	var wg sync.WaitGroup
	for i, w := range ws {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			failpoint.Here("stop: before driver")
			err := s.place.Stop(ctx, w.id, stopGrace, engine.ReasonStopped, by)
			failpoint.Here("stop: after driver")
			if engine.KindOf(err) != engine.NotFound {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
