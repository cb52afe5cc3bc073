package manager

import (
	"sync"
	"time"

	"muster/api"
	"muster/engine"
)

// defaultGrace is how long a session outlives the connection of its creator: one that broke is taken up again sooner.
const defaultGrace = 10 * time.Second

// lease is that of a session whose creator's process nobody here can watch, because it is on another machine: the session
// ends when the creator has not been connected for a while. It is the server's alone: if the server dies, such a session
// goes on until its own engine ends, or the next server has waited as long for its creator. A nil lease is none.
type lease struct {
	grace time.Duration
	timer *time.Timer

	mu      sync.Mutex
	holders int
}

func newLease(kind string, grace time.Duration) *lease {
	if kind != api.LeaseConnection {
		return nil
	}
	return &lease{grace: grace, timer: time.NewTimer(grace)}
}

// lost is ready when nobody has held the lease for the grace.
func (l *lease) lost() <-chan time.Time {
	if l == nil {
		return nil
	}
	return l.timer.C
}

func (l *lease) add(n int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders += n; l.holders > 0 {
		l.timer.Stop()
	} else {
		l.timer.Reset(l.grace)
	}
}

// Hold keeps a session with the lease "connection" from ending until release is called.
func (m *Manager) Hold(id engine.ID) (release func(), err error) {
	s, err := m.session(id)
	if err != nil {
		return func() {}, err
	}
	s.lease.add(1)
	return sync.OnceFunc(func() { s.lease.add(-1) }), nil
}
