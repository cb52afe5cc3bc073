package manager

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"muster/api"
	"muster/engine"
)

// A shared server has sessions of several users. Who may do what with which session is for the server's routes to ask here
// (UserOf); what is here is whose rights count. A session without a behalf is the server's own user's.

// CreateSession starts a session of the server's own user: all of it, or nothing.
func (m *Manager) CreateSession(ctx context.Context, req api.CreateSession) (api.Session, error) {
	return m.CreateSessionFor(ctx, engine.User{}, req)
}

// behalfOf is for whom a user's session is made; nil for the server's own user.
func (m *Manager) behalfOf(ctx context.Context, u engine.User) (*engine.Behalf, error) {
	if u == (engine.User{}) {
		return nil, nil
	}
	if m.cfg.Behalf == nil {
		return nil, engine.Errorf(engine.Internal, "this server has one user, and %s asks for a session", u.Name)
	}
	return m.cfg.Behalf(ctx, u)
}

func (s *session) user() engine.User {
	if s.behalf == nil {
		return engine.User{}
	}
	return s.behalf.Account.User
}

// accountOf is who a session's engines are.
func (m *Manager) accountOf(s *session) engine.Account {
	if s.behalf == nil {
		c := m.cfg
		return engine.Account{User: engine.User{Name: c.User, UID: c.UID}, GID: c.GID, Groups: c.Groups, Home: c.Home}
	}
	return s.behalf.Account
}

// baseOf is the environment that a user's session begins with: who the user is, the machine says, for it may come from another
// machine, or from a shell that became the user's without saying so.
func baseOf(on *engine.Behalf, env map[string]string) map[string]string {
	if on == nil {
		return env
	}
	base := maps.Clone(env)
	for _, k := range []string{"HOME", "USER", "LOGNAME", "SHELL"} {
		delete(base, k)
	}
	return base
}

// UserOf tells whose a session is; false if there is none.
func (m *Manager) UserOf(id engine.ID) (engine.User, bool) {
	s, err := m.session(id)
	if err != nil {
		return engine.User{}, false
	}
	return s.user(), true
}

// SessionsOf is Sessions for those of one user.
func (m *Manager) SessionsOf(u engine.User) []api.Session {
	list := []api.Session{}
	for _, s := range slices.Backward(m.all()) {
		if s.user() == u {
			list = append(list, s.describe())
		}
	}
	return list
}

// EngineOf is Engine among the engines of one user: whether the beginning of an id is ambiguous tells nothing of others.
func (m *Manager) EngineOf(u engine.User, id string) (api.Worker, engine.ID, error) {
	where := slices.DeleteFunc(m.all(), func(s *session) bool { return s.user() != u })
	return m.engineIn(where, id)
}

// roomFor is an error if a user has as many sessions as one may. The one that is made counts until made is called: by then it is
// one of them, or none.
func (m *Manager) roomFor(on *engine.Behalf) (made func(), err error) {
	if on == nil {
		return func() {}, nil
	}
	u := on.Account.User
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.making[u]
	for _, s := range m.order {
		select {
		case <-s.done:
		default:
			if s.user() == u {
				n++
			}
		}
	}
	if n >= maxLiving {
		return nil, engine.Errorf(engine.NoCapacity, "user %s has %d sessions, which is the most that may live at a time", u.Name, n).
			WithHint("end some: muster ps, muster stop ID")
	}
	m.making[u]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.making[u]--; m.making[u] == 0 {
			delete(m.making, u)
		}
	}, nil
}

// recordedUser is what a later server needs to know of whose the session is.
func (s *session) recordedUser() json.RawMessage {
	if s.behalf == nil {
		return nil
	}
	b, err := json.Marshal(s.behalf.Account)
	if err != nil {
		panic(err) // texts and numbers only
	}
	return b
}

// behalfAgain is for whom an earlier server made a session. A user who cannot be found any more, or a server that is not shared any
// more, makes it nobody else's: its engines go on, and paths are looked at no longer.
func (m *Manager) behalfAgain(recorded json.RawMessage, ended bool) (*engine.Behalf, error) {
	if len(recorded) == 0 {
		return nil, nil
	}
	var a engine.Account
	if err := json.Unmarshal(recorded, &a); err != nil {
		return nil, err
	}
	why := engine.Errorf(engine.Unavailable, "this server is not shared any more, and the session is user %s's", a.Name)
	if m.cfg.Behalf != nil && !ended { // of those that have ended nothing is looked at any more
		on, err := m.cfg.Behalf(m.ctx, a.User)
		if err == nil {
			return on, nil
		}
		m.problem("take up a session of user "+a.Name, err)
		why = engine.Errorf(engine.Unavailable, "user %s could not be found when the server began: %w", a.Name, err)
	}
	return &engine.Behalf{Account: a, Look: func(func()) error { return why }}, nil
}
