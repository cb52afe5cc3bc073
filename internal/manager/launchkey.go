package manager

import "muster/engine"

// A caller may name a launch by a key of its own, and ask again where the answer was lost, of this process or of the one before:
// the same key is the same launch.

const maxKey = 64

// claimKey returns the workers of the launch that has the key; nil if there is none, which is then the caller's to make and
// to end with nameLaunch.
func (s *session) claimKey(key string) ([]*worker, error) {
	if len(key) > maxKey {
		return nil, invalid("the launch's key has %d bytes: at most %d are allowed", len(key), maxKey)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ws, known := s.keys[key]
	switch {
	case key == "" || !known:
		if key != "" {
			s.keys[key] = nil
		}
		return nil, nil
	case ws == nil:
		return nil, engine.Errorf(engine.Unavailable, "this launch (key %s) is just being carried out", key).WithHint("ask again")
	}
	return ws, nil
}

// nameLaunch gives a launch its key. One that came to nothing (no workers) may be asked for again.
func (s *session) nameLaunch(key string, ws []*worker) {
	if key == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key] = ws; ws == nil {
		delete(s.keys, key)
	}
}
