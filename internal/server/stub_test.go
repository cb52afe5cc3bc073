package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

const (
	ownerToken = "owner-token"
	tokenA     = "token-a"
	tokenB     = "token-b"
	sessionA   = engine.ID("aaaaaaaaaaaaaaaa")
	sessionB   = engine.ID("bbbbbbbbbbbbbbbb")
	workerA    = engine.ID("wa11111111111111")
	workerA2   = engine.ID("wa22222222222222")
	workerB    = engine.ID("wb11111111111111")
)

// stub is a Manager with two sessions, whose answers a test can replace.
type stub struct {
	ended  chan struct{} // closed when worker A has ended; nil: with its session
	launch func(ctx context.Context, session engine.ID, req api.LaunchWorkers) (api.Workers, func(), error)
	await  func(ctx context.Context, session engine.ID, req api.Await, progress func(api.AwaitProgress)) (api.Awaited, error)
	create func(req api.CreateSession) (api.Session, error)
	stdin  io.WriteCloser // nil: was not asked for
	many   int            // workers of session A, if it is not 0
	over   bool           // all engines have run and ended

	mu    sync.Mutex
	calls []string

	reader *console.Reader
	bell   *console.Bell
	done   chan struct{}
}

func (m *stub) called(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, what)
}

func (m *stub) Authenticate(token string) (Identity, bool) {
	id, ok := map[string]Identity{ownerToken: {Owner: true}, tokenA: {Session: sessionA}, tokenB: {Session: sessionB}}[token]
	return id, ok
}

func (m *stub) CreateSessionFor(_ context.Context, _ engine.User, req api.CreateSession) (api.Session, error) {
	if m.create != nil {
		return m.create(req)
	}
	s, err := m.Session(sessionA)
	s.Token = tokenA
	return s, err
}

func (m *stub) Sessions() []api.Session {
	a, _ := m.Session(sessionA)
	b, _ := m.Session(sessionB)
	return []api.Session{a, b}
}

func (m *stub) describe(id engine.ID) api.Worker {
	w := worker(id)
	if m.over {
		then := "2026-01-01T00:00:00.000Z"
		w.RunningAt, w.FinishedAt = &then, &then
	}
	return w
}

func (m *stub) Session(id engine.ID) (api.Session, error) {
	if id != sessionA && id != sessionB {
		return api.Session{}, engine.Errorf(engine.NotFound, "there is no session %q", id)
	}
	s := api.Session{ID: string(id), Token: "secret", Engine: m.describe(id), Workers: 1}
	if id == sessionA && m.many > 0 {
		s.Workers = m.many
	}
	return s, nil
}

// Slugs of the two sessions' projects.
const projectA, projectB = "ada/one", "ada/two"

func worker(id engine.ID) api.Worker {
	project := projectA
	if id == sessionB || id == workerB {
		project = projectB
	}
	return api.Worker{ID: string(id), Status: "running", Project: api.Project{Slug: project}}
}

func (m *stub) EndSession(_ context.Context, id engine.ID, by string) error {
	m.called("end " + string(id) + " by " + by)
	_, err := m.Session(id)
	return err
}

func (m *stub) Hold(id engine.ID) (release func(), err error) {
	m.called("hold " + string(id))
	_, err = m.Session(id)
	return func() { m.called("let go of " + string(id)) }, err
}

func (m *stub) Interrupt(_ context.Context, id engine.ID) error {
	m.called("interrupt " + string(id))
	_, err := m.Session(id)
	return err
}

func (m *stub) Resize(_ context.Context, id engine.ID, size api.TerminalSize) error {
	m.called(fmt.Sprintf("resize %s %dx%d", id, size.Rows, size.Cols))
	return nil
}

func (m *stub) WriteStdin(ctx context.Context, id engine.ID, from int64, data []byte, last bool) (api.Stdin, error) {
	if m.stdin == nil {
		return api.Stdin{}, engine.Errorf(engine.Conflict, "stdin was not asked for")
	}
	m.called(fmt.Sprintf("stdin from %d, %q, last %t", from, data, last))
	defer context.AfterFunc(ctx, func() { m.stdin.Close() })()
	n, err := 0, error(nil)
	if len(data) > 0 { // a pipe of package io waits for a reader of nothing
		n, err = m.stdin.Write(data)
	}
	if err != nil && ctx.Err() == nil {
		return api.Stdin{Closed: true}, nil
	}
	if last {
		m.stdin.Close()
	}
	return api.Stdin{Written: max(from, 0) + int64(n), Closed: last}, ctx.Err()
}

func (m *stub) Launch(ctx context.Context, id engine.ID, req api.LaunchWorkers) (api.Workers, func(), error) {
	if m.launch != nil {
		return m.launch(ctx, id, req)
	}
	if req.N == 1 {
		return api.Workers{Workers: []api.Worker{worker(workerA)}}, func() {}, nil
	}
	return api.Workers{}, func() {}, nil
}

func (m *stub) Ended(session, id engine.ID) (<-chan struct{}, error) {
	if session == sessionA && id == workerA && m.ended != nil {
		return m.ended, nil
	}
	return m.done, nil
}

func (m *stub) Restart(ctx context.Context, id engine.ID, req api.Restart, by string) (api.Workers, func(), error) {
	return m.Launch(ctx, id, api.LaunchWorkers{N: len(req.IDs)})
}

func (m *stub) Workers(id engine.ID, _ string) (api.Workers, error) {
	if id == sessionA && m.many > 0 {
		return api.Workers{Workers: slices.Repeat([]api.Worker{worker(workerA)}, m.many)}, nil
	}
	if id == sessionA {
		return api.Workers{Workers: []api.Worker{worker(workerA2), worker(workerA)}}, nil
	}
	return api.Workers{Workers: []api.Worker{worker(workerB)}}, nil
}

func (m *stub) Await(ctx context.Context, id engine.ID, req api.Await, progress func(api.AwaitProgress)) (func() api.Awaited, error) {
	var a api.Awaited
	var err error
	if m.await != nil {
		a, err = m.await(ctx, id, req, progress)
	}
	return func() api.Awaited { return a }, err
}

func (m *stub) Stop(_ context.Context, id engine.ID, _ api.Stop, by string) (api.Stopped, error) {
	m.called("stop in " + string(id) + " by " + by)
	return api.Stopped{}, nil
}

func (m *stub) Engine(in engine.ID, id string) (found api.Worker, of engine.ID, err error) {
	for session, engines := range map[engine.ID][]engine.ID{
		sessionA: {sessionA, workerA, workerA2}, sessionB: {sessionB, workerB},
	} {
		for _, e := range engines {
			if id != "" && strings.HasPrefix(string(e), id) && (in == "" || in == session) {
				if found.ID != "" {
					return api.Worker{}, "", engine.Errorf(engine.Conflict, "%q is the beginning of several ids", id)
				}
				found, of = m.describe(e), session
			}
		}
	}
	if found.ID == "" {
		return found, "", engine.Errorf(engine.NotFound, "there is no engine %q", id)
	}
	return found, of, nil
}

func (m *stub) Console(engine.ID) (*console.Reader, *console.Bell, <-chan struct{}, error) {
	if m.reader == nil {
		return nil, nil, nil, engine.Errorf(engine.Unavailable, "no console in this test")
	}
	return m.reader, m.bell, m.done, nil
}

// start serves m and returns the address of the API.
func start(t *testing.T, m *stub) (*Server, string) {
	t.Helper()
	s := New(Config{Manager: m, Version: "test", Driver: "fake"})
	ts := httptest.NewUnstartedServer(nil)
	ts.Config = s.HTTP()
	ts.Start()
	t.Cleanup(func() {
		s.Close()
		ts.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return s, ts.URL + api.Base
}

// ask sends a request and returns status and body.
func ask(t *testing.T, method, url, token, body string, headers ...string) (int, string) {
	t.Helper()
	resp := send(t, t.Context(), method, url, token, strings.NewReader(body), headers...)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, string(b)
}

func send(t *testing.T, ctx context.Context, method, url, token string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp
}

// said is what was called.
func (m *stub) said() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

func (m *stub) SessionsOf(u engine.User) []api.Session {
	var list []api.Session
	for _, s := range m.Sessions() {
		if of, _ := m.UserOf(engine.ID(s.ID)); of == u {
			list = append(list, s)
		}
	}
	return list
}

func (m *stub) UserOf(id engine.ID) (engine.User, bool) {
	u, ok := map[engine.ID]engine.User{sessionA: alice, sessionB: bob}[id]
	return u, ok
}

func (m *stub) EngineOf(u engine.User, id string) (api.Worker, engine.ID, error) {
	session := sessionA
	if u == bob {
		session = sessionB
	}
	return m.Engine(session, id)
}
