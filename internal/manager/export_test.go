package manager

import "muster/engine"

// Holds counts what the manager still holds of a session: environments it came from, and batches whose work is kept.
func (m *Manager) Holds(id engine.ID) (origins, works int) {
	s, err := m.session(id)
	if err != nil {
		return 0, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.origin != nil {
		origins = 1
	}
	seen := map[*work]bool{}
	for _, w := range append([]*worker{s.main}, s.workers...) {
		if k := w.batch.work; k != nil && !seen[k] {
			seen[k] = true
			works++
		}
	}
	return origins, works
}
