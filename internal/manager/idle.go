package manager

import (
	"context"
	"time"
)

// AwaitIdle returns when no session has lived for a time, and from then on none can be created; or when ctx ends.
func (m *Manager) AwaitIdle(ctx context.Context, quiet time.Duration) error {
	clock := time.NewTimer(quiet)
	defer clock.Stop()
	for {
		living, entered := m.living()
		if living == nil {
			select {
			case <-clock.C:
				if m.refuseIfIdle() {
					return nil
				}
			case <-entered:
				clock.Reset(quiet)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		select {
		case <-living.done:
			clock.Reset(quiet)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// living returns a session that has not ended, nil if there is none, and a channel that is closed when the next one comes.
func (m *Manager) living() (*session, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.livingLocked(), m.entered
}

func (m *Manager) livingLocked() *session {
	for i := len(m.order) - 1; i >= 0; i-- { // the youngest most likely lives
		select {
		case <-m.order[i].done:
		default:
			return m.order[i]
		}
	}
	return nil
}

// refuseIfIdle is Refuse if no session lives.
func (m *Manager) refuseIfIdle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.livingLocked() != nil {
		return false
	}
	m.closed = true
	return true
}
