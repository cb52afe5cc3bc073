package manager

import (
	"os"
	"slices"
)

// forgetOld forgets the oldest sessions that have ended, so that a server which runs for months does not grow with all it
// ever did. Their consoles stay on disk, but for an ephemeral manager's.
func (m *Manager) forgetOld() {
	var old []*session
	ended, workers := 0, 0
	for _, s := range slices.Backward(m.all()) {
		s.mu.Lock()
		over, n := s.ended, len(s.workers)
		s.mu.Unlock()
		if !over {
			continue
		}
		if ended, workers = ended+1, workers+n; ended > maxEnded || ended > 1 && workers > maxEndedWorkers {
			old = append(old, s)
		}
	}
	if len(old) == 0 {
		return
	}
	m.mu.Lock()
	m.order = slices.DeleteFunc(m.order, func(s *session) bool { return slices.Contains(old, s) })
	for _, s := range old {
		delete(m.sessions, s.id)
	}
	m.mu.Unlock()
	if m.cfg.Ephemeral {
		for _, s := range old {
			m.logged("remove the folder of session "+string(s.id), os.RemoveAll(s.dir))
		}
	}
}
