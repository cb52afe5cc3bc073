package manager

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/failpoint"
	"muster/internal/kernel"
	"muster/internal/project"
)

// undo is what has to be taken back if a later step fails, in reverse order.
type undo []func()

func (u *undo) add(f func()) { *u = append(*u, f) }

func (u undo) run() {
	for i := len(u) - 1; i >= 0; i-- {
		u[i]()
	}
}

// CreateSessionFor starts a user's session: all of it, or nothing.
func (m *Manager) CreateSessionFor(ctx context.Context, u engine.User, req api.CreateSession) (reply api.Session, err error) {
	if err := m.open(); err != nil {
		return api.Session{}, wrap("create session", err)
	}
	on, err := m.behalfOf(ctx, u)
	if err != nil {
		return api.Session{}, wrap("create session", err)
	}
	made, err := m.roomFor(on)
	if err != nil {
		return api.Session{}, wrap("create session", err)
	}
	defer made()
	s, err := m.newSession(ctx, on, req)
	if err != nil {
		return api.Session{}, wrap("create session", err)
	}
	var back undo
	defer func() {
		if err != nil {
			back.run()
			err = wrap("create session", noDisk(err, m.cfg.StateDir))
		}
	}()
	if err := m.room.count(boundsOf(s.settings.Limits), []*ticket{&s.main.ticket}); err != nil {
		return api.Session{}, err
	}
	back.add(func() { admit(m.room.release([]*ticket{&s.main.ticket})) })
	if err := s.main.neverShared(); err != nil && s.kind != kindAttached {
		return api.Session{}, err
	}
	admitted, ok := m.room.take(&s.main.ticket)
	if !ok {
		if err := noShare(&s.main.ticket); err != nil {
			return api.Session{}, err
		}
		return api.Session{}, noRoom(s.main.ticket.want, m.room.standing())
	}
	admit(admitted)
	failpoint.Here("create: before place")
	if err := m.openPlace(ctx, s, req, &back); err != nil {
		return api.Session{}, err
	}
	failpoint.Here("create: after place")
	if err := s.record(ctx, req.Lease, req.OwnerPID); err != nil {
		return api.Session{}, err
	}
	back.add(func() { m.unrecord(s.id) })
	failpoint.Here("create: after record")
	if s.kind == kindAttached {
		err = m.startAttached(s)
	} else {
		err = m.startMain(ctx, s, req, &back)
	}
	if err != nil {
		return api.Session{}, err
	}
	failpoint.Here("create: before reply")
	s.warn(ctx)
	d := s.describe()
	d.Token = s.key
	if !m.cfg.Ephemeral && on == nil { // no other user may look into it
		d.Folder = s.dir
	}
	if s.kind == kindAttached {
		d.Env = m.ownEnv(s)
	}
	return d, nil
}

// noDisk says what to do where the folder that holds the sessions takes nothing more.
func noDisk(err error, dir string) error {
	file, ok := errors.AsType[*os.PathError](err)
	if !ok || !strings.HasPrefix(file.Path, dir) {
		return err
	}
	switch file.Err {
	case unix.ENOSPC, unix.EDQUOT:
		return engine.Errorf(engine.Unavailable, "%w", err).
			WithHint("make room in %s, or set MUSTER_STATE_DIR to a folder on another disk", dir)
	case unix.EROFS, unix.EACCES:
		return engine.Errorf(engine.Unavailable, "%w", err).
			WithHint("set MUSTER_STATE_DIR to a folder that you may write to (it is %s)", dir)
	}
	return err
}

// newSession makes everything that needs no undoing, which is where most requests that cannot be right end.
func (m *Manager) newSession(ctx context.Context, on *engine.Behalf, req api.CreateSession) (*session, error) {
	var settings project.Settings
	err := on.Try(func() (err error) {
		if settings, err = m.settingsOf(&req); err != nil {
			return err
		}
		if err = checkSession(&req); err != nil {
			return err
		}
		return checkShared(req.Project, m.cfg.Driver.Capabilities().Isolation)
	})
	if err != nil {
		return nil, err
	}
	key := newToken()
	s := &session{
		m: m, id: engine.NewID(), kind: kindOf(req), name: sessionName(req), project: filepath.Clean(req.Project), created: m.now(),
		terminal: req.Terminal, settings: settings, behalf: on,
		key: key, token: sha256.Sum256([]byte(key)), bell: console.NewBell(),
		done: make(chan struct{}), wake: make(chan struct{}, 1), byID: map[engine.ID]*worker{}, bursts: map[driver.Kind]bool{}, keys: map[string][]*worker{}, stdin: req.Stdin,
	}
	if req.TTY != nil {
		s.tty = &driver.TerminalSize{Rows: req.TTY.Rows, Cols: req.TTY.Cols}
	}
	s.shares = m.sharesOf(s)
	s.dir = filepath.Join(m.cfg.StateDir, sessionsName, string(s.id))
	b := &batch{name: s.name, role: engine.RoleSession, cpu: req.CPU, memory: req.Memory, gpus: req.GPUs, live: 1, held: true}
	s.main = newWorker(s, b, s.id, netip.Addr{}, s.created) // its address comes with its place
	if !m.cfg.HardCPU {
		s.main.ticket.want.cpu = 0 // a session mostly waits for its workers: the sum that is told is theirs
	}
	if s.kind == kindAttached {
		return s, m.prepareAttached(ctx, s, req)
	}
	otherwise := engine.Python3
	if req.Script != "" {
		otherwise = "" // whose ending says nothing: package kernel says what to do
	}
	w := &work{env: req.Env}
	s.origin = &origin{base: baseOf(on, req.BaseEnv)}
	s.origin.search = m.searchEnvironment(s, w, s.origin)
	w.command, err = m.cfg.Kernels.Prepare(ctx, kernel.Request{
		Kernel: s.kernelOf(req.Kernel, req.Script, otherwise), Script: s.script(req.Script), Code: req.Code, Args: req.Args,
		Project: s.project, Env: m.environment(s, s.main, w, s.origin), SearchEnv: s.origin.search, Trusted: true,
		Interactive: s.tty != nil, Own: settings.Kernels, For: on,
	})
	if err != nil {
		return nil, err
	}
	b.kernel, s.interpreter, s.shared, b.work = w.command.Kernel, w.command.Interpreter, w.command.Shared, w
	return s, checkExec(w.command.Argv, m.environment(s, s.main, w, s.origin))
}

// kernelOf is the kernel asked for, else what the script's ending says, else the given one.
func (s *session) kernelOf(asked, script string, otherwise engine.Kernel) engine.Kernel {
	if asked != "" {
		return engine.Kernel(asked)
	}
	if script == "" {
		return otherwise
	}
	if k, ok := s.m.cfg.Kernels.ByEnding(script, s.settings.Kernels); ok {
		return k
	}
	return otherwise
}

// openPlace makes the session's place, in which nothing runs yet, and the API's listener in it.
func (m *Manager) openPlace(ctx context.Context, s *session, req api.CreateSession, back *undo) error {
	owner, err := pidfd(req.OwnerPID)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		if owner != nil {
			owner.Close()
		}
		return fmt.Errorf("make the folder of the session: %w", err)
	}
	back.add(func() { os.RemoveAll(s.dir) })
	place, err := m.cfg.Driver.Open(ctx, driver.SessionSpec{
		ID: s.id, ConsoleDir: s.consoleDir(), Ephemeral: m.cfg.Ephemeral, Owner: owner,
		Attached: s.attached(req), Inside: m.inside(s.id), Observe: s.observe, Wrote: s.bell.Ring,
	})
	if err != nil {
		return err
	}
	s.place = place
	// What was opened is ended even if the request that asked for it was given up.
	back.add(func() {
		m.logged("end a session that could not be created", place.End(context.WithoutCancel(ctx), 0, "server"))
	})
	if err := s.mark(); err != nil {
		return err
	}
	l, at, err := place.Listen(ctx, m.cfg.APIPort)
	if err != nil {
		return err
	}
	s.api, s.url = l, "http://"+at.String()
	s.serving.Go(func() { m.cfg.Serve(s.id, l) })
	back.add(func() { l.Close(); s.serving.Wait() })
	if s.main.addr, err = s.ownAddress(); err != nil {
		return err
	}
	s.site = m.newSite(s)
	return nil
}

// ownAddress is where workers find their master.
func (s *session) ownAddress() (netip.Addr, error) {
	if s.kind == kindAttached {
		return s.place.Address(), nil
	}
	addrs, err := s.place.Reserve(1)
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0], nil
}

// startMain enters the session and starts its own engine.
func (m *Manager) startMain(ctx context.Context, s *session, req api.CreateSession, back *undo) error {
	s.lease = newLease(req.Lease, m.cfg.LeaseGrace)
	if err := m.enter(s); err != nil {
		return err
	}
	back.add(func() { m.leave(s) })
	s.mu.Lock()
	s.main.becomeLocked(engine.Starting, m.now())
	work, from := s.main.batch.work, s.origin
	s.mu.Unlock()
	if work == nil || from == nil {
		return engine.Errorf(engine.Conflict, "the session was ended while it was created")
	}
	spec := s.spec(s.main, work, from)
	spec.Stdin, spec.Terminal = s.stdin, s.tty
	if err := s.place.Start(ctx, []driver.Spec{spec})[0]; err != nil {
		return err
	}
	go s.run() // counted by enter
	return nil
}

// enter makes the session known and counts its goroutine; nothing is entered once the manager closes.
func (m *Manager) enter(s *session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.openLocked(); err != nil {
		return err
	}
	m.group.Add(1) // for session.run
	m.sessions[s.id] = s
	m.order = append(m.order, s)
	m.tokens[s.token] = engine.Identity{Session: s.id, User: s.user()}
	close(m.entered)
	m.entered = make(chan struct{})
	return nil
}

// open is an error if no session can be created any more.
func (m *Manager) open() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.openLocked()
}

func (m *Manager) openLocked() error {
	if m.closed {
		return engine.Errorf(engine.Unavailable, "the server is going down")
	}
	return nil
}

// leave undoes enter, for a session whose goroutine was not started.
func (m *Manager) leave(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, s.id)
	delete(m.tokens, s.token)
	for i := range m.order {
		if m.order[i] == s {
			m.order = append(m.order[:i:i], m.order[i+1:]...)
			break
		}
	}
	m.group.Done()
}

// pidfd opens the process whose end is to be the session's; nil for none.
func pidfd(pid int) (*os.File, error) {
	if pid == 0 {
		return nil, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, engine.Errorf(engine.Invalid, "owner_pid %d: there is no such process on this machine (%v)", pid, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of %d", pid)), nil
}

func (s *session) consoleDir() string { return filepath.Join(s.dir, consoleName) }

// sessionsName is the folder of the sessions, in the state folder; each has one in it, with its console.
const (
	sessionsName = "sessions"
	consoleName  = "console"
)
