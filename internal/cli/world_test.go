package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second
	sessionA = "aaaaaaaaaaaaaaaa"
	worker1  = "w1aaaaaaaaaaaaaa"
	worker2  = "w2aaaaaaaaaaaaaa"
)

// world is a server with a scripted manager behind it, and what a command sees of it.
type world struct {
	*manager
	t       *testing.T
	address string
	socket  string    // the same server
	stdout  io.Writer // instead of out
	env     []string
	in      io.Reader
	out     syncBuffer
	err     syncBuffer
	signals chan os.Signal
	deps    Deps
	tty     bool
	slow    time.Duration // after which a server that does not answer is told of
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, manager: newManager(t), signals: make(chan os.Signal), in: strings.NewReader("")}
	s := server.New(server.Config{Manager: w.manager, Version: "1.2.3", Driver: "fake"})
	ts := httptest.NewUnstartedServer(nil)
	ts.Config = s.HTTP()
	ts.Start()
	t.Cleanup(func() { s.Close(); ts.Close() })
	w.address = ts.URL
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { ts.Config.Serve(l); close(served) }()
	t.Cleanup(func() { l.Close(); <-served })
	w.socket = "unix://" + path
	w.env = []string{"MUSTER_HOST=" + ts.URL, "MUSTER_TOKEN=owner", "MUSTER_RUNTIME_DIR=" + t.TempDir() + "/run", "HOME=/home/me"}
	return w
}

// run runs one command line.
func (w *world) run(args ...string) int {
	w.t.Helper()
	d := w.deps
	out := io.Writer(&w.out)
	if w.stdout != nil {
		out = w.stdout
	}
	d.Version, d.Environ, d.Signals = "1.2.3", w.env, w.signals
	if d.Dir == "" {
		d.Dir = "/project"
	}
	a := &app{
		Streams: Streams{In: w.in, Out: out, Err: &w.err, ErrTerminal: w.tty, OutTerminal: w.tty}, deps: d,
		signals: w.signals, slowAfter: w.slow, now: func() time.Time { return time.Date(2024, 5, 6, 7, 10, 0, 0, time.UTC) },
	}
	return a.main(w.t.Context(), args)
}

// expect runs a command line and compares everything that can be seen of it.
func (w *world) expect(code int, out, errOut string, args ...string) {
	w.t.Helper()
	w.out.Reset()
	w.err.Reset()
	if got := w.run(args...); got != code || w.out.String() != out || w.err.String() != errOut {
		w.t.Errorf("muster %q: exit code %d, want %d\nstdout %q\n  want %q\nstderr %q\n  want %q",
			args, got, code, w.out.String(), out, w.err.String(), errOut)
	}
}

// syncBuffer is a buffer that two goroutines may use, and that tells when it grows.
type syncBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	grew chan struct{}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.grew != nil {
		close(b.grew)
		b.grew = nil
	}
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.buf.String() }
func (b *syncBuffer) Reset()         { b.mu.Lock(); defer b.mu.Unlock(); b.buf.Reset() }

// await waits until text was written.
func (b *syncBuffer) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(patience)
	for {
		b.mu.Lock()
		there := strings.Contains(b.buf.String(), text)
		if b.grew == nil {
			b.grew = make(chan struct{})
		}
		grew := b.grew
		b.mu.Unlock()
		if there {
			return
		}
		select {
		case <-grew:
		case <-late:
			t.Errorf("%q was not written", text)
			return
		}
	}
}

// manager is the scripted manager: one session, whose script is a function.
type manager struct {
	t      *testing.T
	dir    string
	bell   *console.Bell
	script func(m *manager) api.Event // runs when the session was created; nil: ends at once

	mu          sync.Mutex
	calls       []string
	held        atomic.Value // the session whose console is read as its creator
	created     *api.CreateSession
	list        []api.Session
	workers     []api.Worker
	writer      *console.Writer
	logs        map[string]*console.EngineLog
	done        chan struct{}
	interrupted chan struct{}
	ending      chan struct{}
	once        sync.Once     // closes it
	ends        chan struct{} // if set: gets a value at every call of EndSession
	stdin       *io.PipeReader
	typed       *io.PipeWriter
	launch      func(api.LaunchWorkers) (api.Workers, error)
	await       func(context.Context, api.Await, func(api.AwaitProgress)) (api.Awaited, error)
	createErr   error
}

func newManager(t *testing.T) *manager {
	m := &manager{t: t, dir: t.TempDir(), bell: console.NewBell(), logs: map[string]*console.EngineLog{},
		done: make(chan struct{}), interrupted: make(chan struct{}), ending: make(chan struct{})}
	m.stdin, m.typed = io.Pipe()
	var err error
	if m.writer, err = console.OpenWriter(m.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.writer.Close() })
	return m
}

func (m *manager) print(id string, stream console.Stream, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	log := m.logs[id]
	if log == nil {
		var err error
		if log, err = m.writer.Log(id); err != nil {
			m.t.Error(err)
			return
		}
		m.logs[id] = log
	}
	if err := log.Append(stream, 0, time.Unix(1, 0), []byte(text)); err != nil {
		m.t.Error(err)
	}
	m.bell.Ring()
}

func (m *manager) called(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, what)
}

func (m *manager) Authenticate(token string) (server.Identity, bool) {
	switch token {
	case "owner":
		return server.Identity{Owner: true}, true
	case "session":
		return server.Identity{Session: sessionA}, true
	}
	return server.Identity{}, false
}

func (m *manager) CreateSessionFor(_ context.Context, _ engine.User, req api.CreateSession) (api.Session, error) {
	if m.createErr != nil {
		return api.Session{}, m.createErr
	}
	m.mu.Lock()
	m.created = &req
	s := api.Session{ID: sessionA, Kind: "script", Engine: api.Worker{ID: sessionA, MasterID: sessionA, Status: "running"}}
	m.list = append(m.list, s)
	m.mu.Unlock()
	go func() {
		e := api.Event{Reason: "succeeded", Status: "succeeded", Code: new(int)}
		if m.script != nil {
			e = m.script(m)
		}
		e.Type, e.Engine = "exit", sessionA
		m.print(sessionA, console.Event, encode(e))
		m.stdin.Close()
		close(m.done)
	}()
	return s, nil
}

func (m *manager) Sessions() []api.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

func (m *manager) Session(id engine.ID) (api.Session, error) {
	for _, s := range m.Sessions() {
		if s.ID == string(id) {
			return s, nil
		}
	}
	return api.Session{}, engine.Errorf(engine.NotFound, "there is no session %q", id)
}

func (m *manager) EndSession(ctx context.Context, id engine.ID, _ string) error {
	if _, err := m.Session(id); err != nil {
		return err
	}
	m.called("end " + string(id))
	if m.created != nil {
		m.once.Do(func() { close(m.ending) })
		if m.ends != nil {
			m.ends <- struct{}{}
		}
		select {
		case <-m.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (m *manager) Interrupt(context.Context, engine.ID) error {
	m.called("interrupt")
	close(m.interrupted)
	return nil
}

func (m *manager) Resize(_ context.Context, _ engine.ID, size api.TerminalSize) error {
	m.called(fmt.Sprintf("resize %dx%d", size.Rows, size.Cols))
	return nil
}

func (m *manager) WriteStdin(_ context.Context, _ engine.ID, from int64, data []byte, last bool) (api.Stdin, error) {
	m.typed.Write(data)
	if last {
		m.typed.Close()
	}
	return api.Stdin{Written: from + int64(len(data)), Closed: last}, nil
}

func (m *manager) Launch(_ context.Context, id engine.ID, req api.LaunchWorkers) (api.Workers, func(), error) {
	m.called(fmt.Sprintf("launch in %s", id))
	w, err := m.launch(req)
	return w, func() {}, err
}

func (m *manager) Workers(id engine.ID, group string) (api.Workers, error) {
	if id != sessionA {
		return api.Workers{}, nil
	}
	return api.Workers{Workers: slices.DeleteFunc(slices.Clone(m.workers), func(w api.Worker) bool { return group != "" && w.Group != group })}, nil
}

func (m *manager) Ended(_, _ engine.ID) (<-chan struct{}, error) { return m.done, nil }

func (m *manager) Restart(_ context.Context, id engine.ID, req api.Restart, _ string) (api.Workers, func(), error) {
	m.called(fmt.Sprintf("restart %v in %s", req.IDs, id))
	w, err := m.launch(api.LaunchWorkers{N: len(req.IDs)})
	return w, func() {}, err
}

func (m *manager) Await(ctx context.Context, _ engine.ID, req api.Await, progress func(api.AwaitProgress)) (func() api.Awaited, error) {
	var a api.Awaited
	var err error
	if m.await != nil {
		a, err = m.await(ctx, req, progress)
	}
	return func() api.Awaited { return a }, err
}

func (m *manager) Hold(id engine.ID) (func(), error) {
	m.held.Store(string(id))
	return func() {}, nil
}

func (m *manager) Stop(_ context.Context, id engine.ID, req api.Stop, _ string) (api.Stopped, error) {
	if req.Group != "" {
		m.called(fmt.Sprintf("stop group %s in %s", req.Group, id))
	} else {
		m.called(fmt.Sprintf("stop %v all=%v in %s", req.IDs, req.All, id))
	}
	var s api.Stopped
	for _, w := range m.workers {
		if req.All || req.Group != "" && req.Group == w.Group || slices.Contains(req.IDs, w.ID) {
			s.Results = append(s.Results, api.StopResult{ID: w.ID, Status: 204})
		}
	}
	return s, nil
}

func (m *manager) Engine(_ engine.ID, id string) (api.Worker, engine.ID, error) {
	for _, w := range m.workers {
		if id != "" && strings.HasPrefix(w.ID, id) {
			return w, sessionA, nil
		}
	}
	for _, s := range m.Sessions() {
		if strings.HasPrefix(s.ID, id) {
			return s.Engine, engine.ID(s.ID), nil
		}
	}
	return api.Worker{}, "", engine.Errorf(engine.NotFound, "there is no engine %q", id)
}

func (m *manager) Console(engine.ID) (*console.Reader, *console.Bell, <-chan struct{}, error) {
	r, err := console.Open(m.dir)
	return r, m.bell, m.done, err
}

func (m *manager) SessionsOf(engine.User) []api.Session { return nil }

func (m *manager) UserOf(engine.ID) (engine.User, bool) { return engine.User{}, false }

func (m *manager) EngineOf(_ engine.User, id string) (api.Worker, engine.ID, error) {
	return m.Engine("", id)
}
