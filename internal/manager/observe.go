package manager

import (
	"encoding/json"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

// observe takes what the driver saw. It is called in order, but believes nothing of it: an observation that comes twice,
// late or never leads at most to a status that comes later.
func (s *session) observe(o driver.Observation) {
	at := o.At
	if at.IsZero() {
		at = s.m.now()
	}
	switch o.Kind {
	case driver.Accepted:
		s.change(func(fx *effects) {
			if w := s.findLocked(o.Engine); w != nil {
				w.adoptLocked(o.Held)
			}
		})
	case driver.Started:
		s.change(func(fx *effects) {
			if w := s.findLocked(o.Engine); w != nil {
				w.becomeLocked(engine.Starting, at)
				w.becomeLocked(engine.Running, at)
				if w == s.main && !s.adopting {
					s.warmSoonLocked()
				}
			}
		})
	case driver.Exited:
		exit := engine.Exit{Reason: engine.ReasonSignal, Code: 255, Message: "ended for an unknown reason", At: at}
		if o.Exit != nil {
			exit = *o.Exit
		}
		recorded := s.recordedEnd(o.Engine, exit)
		if recorded.Exit != nil {
			exit = *recorded.Exit
		}
		s.change(func(fx *effects) {
			w := s.findLocked(o.Engine)
			if w == nil {
				return
			}
			if recorded.Started != nil {
				w.becomeLocked(engine.Running, *recorded.Started)
			}
			if w.finishLocked(exit, at) {
				fx.freed = append(fx.freed, &w.ticket)
			}
			if w == s.main && !s.adopting {
				s.dropWaitingLocked(fx)
			}
		})
	case driver.Ended:
		s.gone(o, at)
	case driver.Notice:
		s.say(o, at)
	}
}

// say tells everyone who follows what the driver noticed. It is not written to the console: often the disk is what fails.
func (s *session) say(o driver.Observation, at time.Time) {
	s.m.cfg.Log.Info("driver notice", "session", s.id, "engine", o.Engine, "text", o.Text)
	b, err := json.Marshal(api.Event{Type: "notice", Engine: string(s.main.id), Message: o.Text})
	if err != nil {
		return // plain strings always encode
	}
	s.bell.Say(console.Record{Engine: string(s.main.id), Stream: console.Event, Time: at, Payload: b})
}

// gone makes everything final that is not: nothing of the session exists any more.
func (s *session) gone(o driver.Observation, at time.Time) {
	exit := engine.Exit{Reason: engine.ReasonSessionEnded, Message: "its session ended", At: at}
	if o.Exit != nil {
		exit.By = o.Exit.By
		if o.Exit.Reason == engine.ReasonKeeperLost {
			exit = *o.Exit
		}
	}
	first := false
	s.change(func(fx *effects) {
		first, s.ended = !s.ended, true
		s.dropWaitingLocked(fx)
		s.origin = nil // nothing starts here any more
		for _, w := range append([]*worker{s.main}, s.workers...) {
			e := exit
			if w == s.main && s.kind == kindAttached && o.Exit != nil {
				e = *o.Exit // nobody observed its own end
			}
			if w.finishLocked(e, at) {
				fx.freed = append(fx.freed, &w.ticket)
			}
		}
	})
	if first {
		close(s.done)
	}
}

// dropWaitingLocked ends the workers that the driver does not have: nobody else will.
func (s *session) dropWaitingLocked(fx *effects) {
	s.ending = true
	s.coolAllLocked()
	s.pending = nil
	s.stopTryingLocked()
	s.forgetWorkLocked()
	now := s.m.now()
	for _, w := range s.workers {
		if w.status == engine.Scheduling && w.finishLocked(engine.Exit{
			Reason: engine.ReasonSessionEnded, Message: "its session ended before it started", At: now,
		}, now) {
			fx.freed = append(fx.freed, &w.ticket)
		}
	}
}
