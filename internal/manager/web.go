package manager

import (
	"context"
	"net"
	"strconv"

	"muster/engine"
	"muster/internal/driver"
)

// Found is what those who lead people to engines need to know of one.
type Found struct {
	ID      engine.ID
	Session engine.ID
	User    engine.User // whose; zero: the server's own user's
	Name    string
	Role    engine.Role
	Status  engine.Status
	Why     string          // what it waits for, or how it ended; may be empty
	Done    <-chan struct{} // closed when it has ended
}

// Find finds a worker, or a session's own engine, by its whole id.
func (m *Manager) Find(id engine.ID) (Found, bool) {
	w := m.worker(id)
	if w == nil {
		return Found{}, false
	}
	s := w.session
	st := m.room.standing()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := Found{ID: w.id, Session: s.id, User: s.user(), Name: w.batch.name, Role: w.batch.role, Status: w.status, Done: w.doneLocked()}
	if w == s.main {
		f.Name = s.name
	}
	switch {
	case w.exit != nil:
		f.Why = w.exit.Message
	default:
		f.Why = w.viewLocked(st).Waits
	}
	return f, true
}

// Ended returns a channel that is closed when an engine of a session has ended.
func (m *Manager) Ended(session, id engine.ID) (<-chan struct{}, error) {
	s, err := m.session(session)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.findLocked(id)
	if w == nil {
		return nil, engine.Errorf(engine.NotFound, "no engine %q", id)
	}
	return w.doneLocked(), nil
}

// Dial connects to a TCP port of an engine's own 127.0.0.1. One that nobody listens on is refused (ECONNREFUSED).
func (m *Manager) Dial(ctx context.Context, id engine.ID, port int) (net.Conn, error) {
	w := m.worker(id)
	if w == nil {
		return nil, engine.Errorf(engine.NotFound, "no engine %q", id)
	}
	return w.session.place.Dial(ctx, id, port)
}

// inside serves, on the loopback of a session's engines, where Config.Web leads people to: by the same address they find it
// too. Nil where engines have no loopback of their own, for there it is served already.
func (m *Manager) inside(session engine.ID) *driver.Inside {
	_, digits, _ := net.SplitHostPort(m.cfg.Web)
	port, err := strconv.Atoi(digits)
	if err != nil || m.cfg.Serve == nil || !m.cfg.Driver.Capabilities().Loopback {
		return nil
	}
	return &driver.Inside{Port: port, Serve: func(l net.Listener) { m.cfg.Serve(session, l) }}
}

func (m *Manager) worker(id engine.ID) *worker {
	for _, s := range m.all() {
		s.mu.Lock()
		w := s.findLocked(id)
		s.mu.Unlock()
		if w != nil {
			return w
		}
	}
	return nil
}
