package manager

import "context"

// A caller may name a launch by a key of its own, and ask again where the answer was lost, of this process or of the one before:
// the same key is the same launch.

const maxKey = 64

// claimKey returns the workers of the launch that has the key, when it is carried out; nil if there is none, which is then the
// caller's to make and to end with nameLaunch.
func (s *session) claimKey(ctx context.Context, key string) ([]*worker, error) {
	if len(key) > maxKey {
		return nil, invalid("the launch's key has %d bytes: at most %d are allowed", len(key), maxKey)
	}
	if key == "" {
		return nil, nil
	}
	for {
		s.mu.Lock()
		ws, meanwhile := s.keys[key], s.launching[key]
		if ws == nil && meanwhile == nil {
			if s.launching == nil {
				s.launching = map[string]chan struct{}{}
			}
			s.launching[key] = make(chan struct{})
		}
		s.mu.Unlock()
		if meanwhile == nil {
			return ws, nil
		}
		select {
		case <-meanwhile: // it may have come to nothing
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// nameLaunch gives a launch its key. One that came to nothing (no workers) may be asked for again.
func (s *session) nameLaunch(key string, ws []*worker) {
	if key == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ws != nil {
		s.keys[key] = ws
	}
	close(s.launching[key])
	delete(s.launching, key)
}
