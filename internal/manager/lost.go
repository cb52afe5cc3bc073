package manager

import (
	"encoding/json"
	"fmt"
	"time"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/store"
)

// lastRecords is how far from the end of an engine's log its exit is looked for: notes may follow it.
const lastRecords = 16

// ending is what the driver writes of an engine's end into its log: api.Ending.
type ending struct {
	Started *time.Time   `json:"started"`
	Exit    *engine.Exit `json:"exit"`
}

// lose finds out how the engines of a session ended whose place is gone, and records it. The sentence says that the session
// was lost; "" if it came to its own end while no server was there.
func (m *Manager) lose(s *session, k store.Known) (sentence string) {
	ends, began := s.readEnds()
	lost := engine.Exit{
		Reason: engine.ReasonKeeperLost, Code: 137, Signal: 9, At: m.now(), Message: "the session's keeper was killed, and the session with it",
	}
	if k.Boot != m.cfg.Boot {
		lost.Reason, lost.Message = engine.ReasonNodeLost, "the machine went down while it ran"
	}
	never := engine.Exit{Reason: engine.ReasonSessionEnded, Message: "its session ended before it started", At: lost.At}
	s.change(func(*effects) {
		s.ending = true // nothing is tried again
		for _, w := range append([]*worker{s.main}, s.workers...) {
			exit := lost
			switch e, known := ends[w.id]; {
			case w.status.Final():
				w.giveUpLocked()
				continue
			case known:
				if exit = *e.Exit; e.Started != nil {
					w.becomeLocked(engine.Running, *e.Started)
				}
			case !began[w.id] && w != s.main:
				exit = never
			}
			w.finishLocked(exit, exit.At)
		}
		s.ended = true
	})
	m.problem("record the end of session "+s.id.Short(), s.recordEnds())
	m.settle(s)
	if why := s.main.exit.Reason; why != engine.ReasonKeeperLost && why != engine.ReasonNodeLost {
		return ""
	}
	return fmt.Sprintf("session %s (%s) was lost: %s; what it printed is in %s", s.id, s.name, s.main.exit.Message, s.dir)
}

// recordedEnd is how an engine ended by its log, where its keeper was killed between writing that and telling it; nothing where the log
// does not know, or the end is another one. The killed keeper writes no more, so that the logs are read once for all its engines.
func (s *session) recordedEnd(id engine.ID, told engine.Exit) ending {
	if told.Reason != engine.ReasonKeeperLost {
		return ending{}
	}
	if s.lastEnds == nil {
		s.lastEnds, _ = s.readEnds()
	}
	return s.lastEnds[id]
}

// readEnds finds, at the ends of their logs, the exits of the engines that have not ended as far as is recorded, and which of
// them ever began.
func (s *session) readEnds() (ends map[engine.ID]ending, began map[engine.ID]bool) {
	ends, began = map[engine.ID]ending{}, map[engine.ID]bool{}
	look := map[string]int{} // at so many records more
	s.mu.Lock()
	for _, w := range append([]*worker{s.main}, s.workers...) {
		if !w.status.Final() {
			look[string(w.id)] = lastRecords
		}
	}
	s.mu.Unlock()
	r, err := console.Open(s.consoleDir())
	if err == nil {
		err = r.Backward(func(id string) bool { return look[id] > 0 }, func(rec console.Record) bool {
			id := engine.ID(rec.Engine)
			began[id] = true
			look[rec.Engine]--
			var e struct{ Ending *ending }
			if rec.Stream == console.Event && json.Unmarshal(rec.Payload, &e) == nil && e.Ending != nil && e.Ending.Exit != nil {
				ends[id] = *e.Ending
				look[rec.Engine] = 0
			}
			if look[rec.Engine] == 0 {
				delete(look, rec.Engine)
			}
			return len(look) > 0
		})
	}
	if err != nil {
		s.m.problem("read the console of session "+s.id.Short(), err)
		for id := range look { // of what cannot be looked up nobody may say that it never began
			began[engine.ID(id)] = true
		}
	}
	return ends, began
}
