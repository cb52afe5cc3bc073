package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/audit"
	"muster/internal/linux/account"
	"muster/internal/manager"
	"muster/internal/server"
	"muster/internal/store"
	"muster/internal/token"
)

// access is the manager as those who ask see it: behind the tokens that people make, and with a record of who did what.
type access struct {
	*manager.Manager
	tokens *token.Registry
	record *audit.Log
	users  *users // nil: there is one
	log    *slog.Logger

	mu     sync.Mutex
	logins map[login]time.Time // that were recorded lately
}

// login is whose browser logged in from where.
type login struct {
	who  engine.Identity
	from string
}

const (
	// loginHolds is how long the same login is not recorded again: every page that is opened may be one.
	loginHolds = time.Minute
	maxLogins  = 10_000
)

// openAccess opens what is kept of who may come in, beside the records.
func (a *app) openAccess(state string) (err error) {
	if a.tokens, err = token.Open(a.records); err == nil {
		a.record, err = audit.Open(state)
	}
	return err
}

func (a *app) closeAccess() error {
	if a.tokens != nil {
		a.tokens.Close()
	}
	if a.record == nil {
		return nil
	}
	return a.record.Close()
}

// entrance is what the server's and the web addresses' routes ask.
type entrance struct {
	manager server.Manager
	access  server.Access // nil: nothing is kept
	engines *manager.Manager
	until   func(engine.Identity) context.Context
	login   func(ctx context.Context, who engine.Identity)
}

func (a *app) accessible(log *slog.Logger) entrance {
	f := entrance{manager: a.manager, engines: a.manager}
	if a.tokens != nil {
		kept := &access{Manager: a.manager, tokens: a.tokens, record: a.record, users: a.users, log: log}
		f.manager, f.access, f.until = kept, kept, kept.Until
		f.login = func(ctx context.Context, who engine.Identity) {
			_, from := server.Sender(ctx)
			kept.loggedIn(who, from, time.Now())
		}
	}
	return f
}

// Authenticate knows the owner's token, sessions' tokens, and those that people made.
func (a *access) Authenticate(secret string) (engine.Identity, bool) {
	if who, ok := a.Manager.Authenticate(secret); ok {
		return who, true
	}
	return a.tokens.Authenticate(secret)
}

// Until implements server.Access.
func (a *access) Until(who engine.Identity) context.Context {
	if who.Token == "" {
		return context.Background()
	}
	return a.tokens.Until(who.Token)
}

// note records what a request did. That it cannot be recorded does not undo it.
func (a *access) note(ctx context.Context, e audit.Entry, err error) {
	who, from := server.Sender(ctx)
	a.noteFor(who, from, e, err)
}

// loggedIn records a browser's login.
func (a *access) loggedIn(who engine.Identity, from string, now time.Time) {
	this := login{who, from}
	a.mu.Lock()
	last, known := a.logins[this]
	again := known && now.Sub(last) < loginHolds
	if !again {
		if a.logins == nil || len(a.logins) >= maxLogins {
			a.logins = map[login]time.Time{}
		}
		a.logins[this] = now
	}
	a.mu.Unlock()
	if !again {
		a.noteFor(who, from, audit.Entry{Action: audit.Login, About: "a browser"}, nil)
	}
}

func (a *access) noteFor(who engine.Identity, from string, e audit.Entry, err error) {
	e.At, e.From, e.Token, e.By = time.Now(), from, who.Token, string(who.Session)
	e.User, e.UID = who.User.Name, who.User.UID
	if who.User == (engine.User{}) {
		e.User, e.UID = "owner", ownUID()
	}
	e.Result = "ok"
	if err != nil {
		e.Result = string(engine.KindOf(err)) // its text may quote an argument or a line of code
	}
	if err := a.record.Add(e); err != nil {
		a.log.Error("a request could not be recorded as it should be", "action", e.Action, "user", e.User, "error", err)
	}
}

// CreateSessionFor implements server.Manager.
func (a *access) CreateSessionFor(ctx context.Context, u engine.User, req api.CreateSession) (api.Session, error) {
	s, err := a.Manager.CreateSessionFor(ctx, u, req)
	a.note(ctx, audit.Entry{Action: audit.CreateSession, Session: s.ID, About: fmt.Sprintf("project %s, kernel %s", req.Project, s.Engine.Kernel)}, err)
	return s, err
}

// EndSession implements server.Manager.
func (a *access) EndSession(ctx context.Context, id engine.ID, by string) error {
	err := a.Manager.EndSession(ctx, id, by)
	a.note(ctx, audit.Entry{Action: audit.EndSession, Session: string(id)}, err)
	return err
}

// Launch implements server.Manager.
func (a *access) Launch(ctx context.Context, session engine.ID, req api.LaunchWorkers) (api.Workers, func(), error) {
	reply, release, err := a.Manager.Launch(ctx, session, req)
	a.noteStart(ctx, audit.Launch, session, reply, fmt.Sprintf(", each cpu %g, memory %g GB, gpu %d", req.CPU, req.Memory, req.GPUs), err)
	return reply, release, err
}

// Restart implements server.Manager.
func (a *access) Restart(ctx context.Context, session engine.ID, req api.Restart, by string) (api.Workers, func(), error) {
	reply, release, err := a.Manager.Restart(ctx, session, req, by)
	a.noteStart(ctx, audit.Restart, session, reply, "", err)
	return reply, release, err
}

// noteStart records that workers are to start.
func (a *access) noteStart(ctx context.Context, action string, session engine.ID, reply api.Workers, what string, err error) {
	e := audit.Entry{Action: action, Session: string(session)}
	refused := 0
	for _, w := range reply.Workers {
		if w.ID == "" {
			refused++
			continue
		}
		e.Engines = append(e.Engines, w.ID)
	}
	e.About = fmt.Sprintf("%d accepted, %d refused%s", len(e.Engines), refused, what)
	if err == nil && refused > 0 {
		err = engine.Errorf(engine.Invalid, "%d refused", refused)
	}
	a.note(ctx, e, err)
}

// Stop implements server.Manager.
func (a *access) Stop(ctx context.Context, session engine.ID, req api.Stop, by string) (api.Stopped, error) {
	done, err := a.Manager.Stop(ctx, session, req, by)
	a.note(ctx, stopEntry(session, done), err)
	return done, err
}

// stopEntry is about what was stopped. An id that nobody has is what the sender calls one, of any length.
func stopEntry(session engine.ID, done api.Stopped) audit.Entry {
	e := audit.Entry{Action: audit.Stop, Session: string(session)}
	for _, r := range done.Results {
		if r.Status < http.StatusBadRequest {
			e.Engines = append(e.Engines, r.ID)
		}
	}
	e.About = fmt.Sprintf("%d stopped", len(e.Engines))
	return e
}

// CreateToken implements server.Access.
func (a *access) CreateToken(ctx context.Context, u engine.User, name string, good time.Duration) (api.Token, error) {
	secret, kept, err := a.tokens.Create(u, name, good)
	a.note(ctx, audit.Entry{Action: audit.CreateToken, About: aboutToken(kept)}, err)
	if err != nil {
		return api.Token{}, err
	}
	t := described(kept)
	t.Token = secret
	return t, nil
}

// ListTokens implements server.Access.
func (a *access) ListTokens(mine func(engine.User) bool) []api.Token {
	list := []api.Token{}
	for _, t := range a.tokens.List(mine) {
		list = append(list, described(t))
	}
	return list
}

// RevokeToken implements server.Access.
func (a *access) RevokeToken(ctx context.Context, id string, mine func(engine.User) bool) error {
	kept, err := a.tokens.Revoke(id, mine)
	if kept.ID == "" {
		kept.ID = id
	}
	a.note(ctx, audit.Entry{Action: audit.RevokeToken, About: aboutToken(kept)}, err)
	return err
}

func aboutToken(t store.Token) string {
	text := fmt.Sprintf("token %.40q", t.ID)
	if t.Name != "" {
		text += fmt.Sprintf(" (%s)", t.Name)
	}
	if t.User.Name != "" {
		text += " of user " + t.User.Name
	}
	return text
}

func described(t store.Token) api.Token {
	d := api.Token{ID: t.ID, Name: t.Name, User: t.User.Name, CreatedAt: t.Created}
	if !t.Expires.IsZero() {
		d.ExpiresAt = &t.Expires
	}
	if !t.Used.IsZero() {
		d.UsedAt = &t.Used
	}
	return d
}

// UserNamed implements server.Access.
func (a *access) UserNamed(ctx context.Context, name string) (engine.User, error) {
	if a.users == nil {
		return engine.User{}, engine.Errorf(engine.Invalid, "this server has one user, its owner, and no user %q", name).
			WithHint("leave the user out; a server for all users of the machine is started with: muster up --shared")
	}
	return a.users.named(ctx, name)
}

// Audit implements server.Access.
func (a *access) Audit(since time.Time, do func(api.AuditEntry) error) error {
	return a.record.Each(since, func(e audit.Entry) error { return do(api.AuditEntry(e)) })
}

func (u *users) named(ctx context.Context, name string) (engine.User, error) {
	found, err := account.ByName(ctx, name)
	if err != nil {
		return engine.User{}, engine.Errorf(engine.Invalid, "there is no user %q on this machine: %v", name, err).
			WithHint("getent passwd %s shows whom the machine knows", name)
	}
	if found.UID == ownUID() {
		return engine.User{}, nil
	}
	return engine.User{Name: found.Name, UID: found.UID}, nil
}
