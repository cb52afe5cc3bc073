package manager

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/failpoint"
)

// Manager holds the sessions of a server. Its methods are safe for concurrent use.
type Manager struct {
	cfg    Config
	room   *room
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	group  sync.WaitGroup // the sessions' goroutines

	mu       sync.Mutex
	closed   bool
	tokens   map[[sha256.Size]byte]engine.Identity
	sessions map[engine.ID]*session
	order    []*session          // as created
	making   map[engine.User]int // sessions that are being created, of users who share the server
	entered  chan struct{}       // closed when the next one comes
}

// New makes a Manager without sessions.
func New(c Config) (*Manager, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: c, room: newRoom(c.Capacity, c.HardCPU), sessions: map[engine.ID]*session{}, entered: make(chan struct{}), making: map[engine.User]int{},
		tokens: map[[sha256.Size]byte]engine.Identity{sha256.Sum256([]byte(c.OwnerToken)): {Owner: true}},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Close lets go of the sessions, which go on without this process; an ephemeral manager ends them first and removes
// what they left. Nothing can be created any more. It waits for everything that it started.
func (m *Manager) Close(ctx context.Context) error {
	m.Refuse()
	var err error
	if m.cfg.Ephemeral {
		err = m.EndAll(ctx, "server")
	}
	m.cancel()
	m.group.Wait()
	if m.cfg.Ephemeral {
		for _, s := range m.all() {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}
	return err
}

// Refuse lets no session be created any more: the server goes down. Sessions that are there go on.
func (m *Manager) Refuse() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

// EndAll refuses new sessions from now on, ends all that are there at the same time, and returns when they are gone.
func (m *Manager) EndAll(ctx context.Context, by string) error {
	m.Refuse() // else one that is just being created would be left
	all := m.all()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { errs[i] = s.end(ctx, by) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// EndSession ends a session and everything of it, and returns when it is gone. Idempotent.
func (m *Manager) EndSession(ctx context.Context, id engine.ID, by string) error {
	s, err := m.session(id)
	if err != nil {
		return err
	}
	return s.end(ctx, by)
}

func (s *session) end(ctx context.Context, by string) error {
	s.change(s.dropWaitingLocked) // none of them starts while the others end
	select {
	case <-s.done:
		return nil
	default:
	}
	failpoint.Here("session end: before driver")
	if err := s.place.End(ctx, endGrace, by); err != nil {
		return wrap("end session "+s.id.Short(), err)
	}
	failpoint.Here("session end: after driver")
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return wrap("end session "+s.id.Short(), context.Cause(ctx))
	}
}

// Sessions lists all sessions, newest first, those that have ended too.
func (m *Manager) Sessions() []api.Session {
	all := m.all()
	slices.Reverse(all)
	list := make([]api.Session, 0, len(all))
	for _, s := range all {
		list = append(list, s.describe())
	}
	return list
}

// Session describes one session.
func (m *Manager) Session(id engine.ID) (api.Session, error) {
	s, err := m.session(id)
	if err != nil {
		return api.Session{}, err
	}
	return s.describe(), nil
}

// Interrupt sends SIGINT to the session's own engine.
func (m *Manager) Interrupt(ctx context.Context, id engine.ID) error {
	s, err := m.session(id)
	if err != nil {
		return err
	}
	if s.kind == kindAttached {
		return engine.Errorf(engine.Conflict, "session %s is a process of its own: it cannot be interrupted from here", id.Short()).
			WithHint("interrupt it where it runs")
	}
	return wrap("interrupt session "+id.Short(), s.place.Signal(ctx, id, int(syscall.SIGINT)))
}

// Resize tells the size of the session's terminal.
func (m *Manager) Resize(ctx context.Context, id engine.ID, size api.TerminalSize) error {
	s, err := m.session(id)
	if err != nil {
		return err
	}
	if s.tty == nil {
		return engine.Errorf(engine.Conflict, "session %s has no terminal", id.Short())
	}
	return wrap("resize the terminal of session "+id.Short(), s.place.Resize(ctx, id, driver.TerminalSize{Rows: size.Rows, Cols: size.Cols}))
}

// WriteStdin writes data to the stdin of a session's own engine, and then, if last, closes it; from is how many bytes come before
// data, or -1 (driver.Session.WriteStdin). It waits while the script does not read. Conflict if stdin was not asked for.
func (m *Manager) WriteStdin(ctx context.Context, id engine.ID, from int64, data []byte, last bool) (api.Stdin, error) {
	s, err := m.session(id)
	if err != nil {
		return api.Stdin{}, err
	}
	if !s.stdin {
		return api.Stdin{}, engine.Errorf(engine.Conflict, "session %s was created without stdin", id.Short())
	}
	at, err := s.place.WriteStdin(ctx, id, from, data, last)
	if engine.KindOf(err) == engine.NotFound || engine.KindOf(err) == engine.Unavailable {
		return api.Stdin{}, engine.Errorf(engine.Conflict, "the script of session %s has ended", id.Short())
	}
	return api.Stdin{Written: at.Written, Closed: at.Closed}, wrap("write to the stdin of session "+id.Short(), err)
}

// Engine finds a worker, or a session's own engine, by its id or the beginning of it: in one session, or in all if in is
// "".
func (m *Manager) Engine(in engine.ID, id string) (api.Worker, engine.ID, error) {
	where := m.all()
	if in != "" {
		s, err := m.session(in)
		if err != nil {
			return api.Worker{}, "", err
		}
		where = []*session{s}
	}
	return m.engineIn(where, id)
}

// engineIn is Engine in some sessions.
func (m *Manager) engineIn(where []*session, id string) (api.Worker, engine.ID, error) {
	var found []*worker
	for _, s := range where {
		exact, beginning := s.called(id)
		if exact != nil {
			found = []*worker{exact}
			break
		}
		found = append(found, beginning...)
	}
	switch len(found) {
	case 0:
		return api.Worker{}, "", engine.Errorf(engine.NotFound, "no engine %q", id).WithHint("muster ps lists them")
	case 1:
		return m.describe(found)[0], found[0].session.id, nil
	}
	return api.Worker{}, "", engine.Errorf(engine.Conflict, "%q is the beginning of %d ids, such as %s and %s", id, len(found), found[0].id, found[1].id).
		WithHint("give more of the id")
}

// called finds the engine that has this id, or those whose ids begin so.
func (s *session) called(id string) (exact *worker, beginning []*worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.findLocked(engine.ID(id)); w != nil || id == "" {
		return w, nil
	}
	for _, w := range append([]*worker{s.main}, s.workers...) {
		if strings.HasPrefix(string(w.id), id) {
			beginning = append(beginning, w)
		}
	}
	return nil, beginning
}

// Console opens the session's console for reading. Done is closed when nothing will follow.
func (m *Manager) Console(id engine.ID) (*console.Reader, *console.Bell, <-chan struct{}, error) {
	s, err := m.session(id)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := console.Open(s.consoleDir())
	if err != nil {
		return nil, nil, nil, wrap("open the console of session "+id.Short(), err)
	}
	return r, s.bell, s.done, nil
}

func (m *Manager) session(id engine.ID) (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[id]; s != nil {
		return s, nil
	}
	return nil, engine.Errorf(engine.NotFound, "no session %q", id).WithHint("muster ps lists them")
}

func (m *Manager) all() []*session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.order)
}

func (m *Manager) now() time.Time { return m.cfg.Now() }

// logged writes an error that changes nothing for anybody.
func (m *Manager) logged(what string, err error) {
	if err != nil {
		m.cfg.Log.Debug(what, "error", err)
	}
}

// problem writes an error that people should know of.
func (m *Manager) problem(what string, err error) {
	if err != nil {
		m.cfg.Log.Warn(what, "error", err)
	}
}

// wrap adds what was done to an error and keeps its kind and hint.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return &engine.Error{Kind: engine.KindOf(err), Message: what, Hint: engine.HintOf(err), Err: err}
}
