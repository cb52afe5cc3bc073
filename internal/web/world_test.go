package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/engine"
)

func TestMain(m *testing.M) {
	// net/http's server keeps a connection that it refused for half a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const (
	deadline    = 30 * time.Second
	ownerToken  = "OWNER"
	sessionA    = engine.ID("sessionaaaaaaaaa")
	sessionB    = engine.ID("sessionbbbbbbbbb")
	workerA     = engine.ID("workeraaaaaaaaaa")
	workerB     = engine.ID("workerbbbbbbbbbb")
	domain      = "localhost:8480"
	appHost     = string(workerA) + "." + domain
	appPath     = "/app/" + string(workerA)
	nextAnswers = "this is the API"
)

// world is a gateway on real listeners, and engines whose ports are real listeners too.
type world struct {
	t       *testing.T
	gateway *Gateway
	server  *http.Server
	outside net.Listener
	inside  map[engine.ID]net.Listener

	mu      sync.Mutex
	engines map[engine.ID]Engine
	done    map[engine.ID]chan struct{}
	ports   map[string]string // "id:port" → where it really is
	stuck   bool              // dials do not come to an end
	dialled atomic.Int64
	person  atomic.Bool                // whoever asks is the owner's own program
	until   map[string]context.Context // the ends of tokens, by their ids
	logins  []engine.Identity          // in order
}

func (w *world) Authenticate(token string) (engine.Identity, bool) {
	switch token {
	case ownerToken:
		return engine.Identity{Owner: true}, true
	case "alice":
		return engine.Identity{User: alice, Token: "t1"}, true
	case "bob":
		return engine.Identity{User: bob, Token: "t2"}, true
	case "A":
		return engine.Identity{Session: sessionA}, true
	case "B":
		return engine.Identity{Session: sessionB}, true
	}
	return engine.Identity{}, false
}

func (w *world) Find(id engine.ID) (Engine, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.engines[id]
	return e, ok
}

func (w *world) Dial(ctx context.Context, id engine.ID, port int) (net.Conn, error) {
	w.dialled.Add(1)
	w.mu.Lock()
	real, ok := w.ports[fmt.Sprintf("%s:%d", id, port)]
	stuck := w.stuck
	w.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !ok {
		return nil, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", real)
}

type sessionKey struct{}

func newWorld(t *testing.T) *world {
	w := &world{t: t, engines: map[engine.ID]Engine{}, done: map[engine.ID]chan struct{}{}, ports: map[string]string{}, inside: map[engine.ID]net.Listener{}}
	for id, session := range map[engine.ID]engine.ID{sessionA: sessionA, sessionB: sessionB, workerA: sessionA, workerB: sessionB} {
		role := engine.RoleWorker
		if id == session {
			role = engine.RoleSession
		}
		w.done[id] = make(chan struct{})
		w.engines[id] = Engine{ID: id, Session: session, Name: "Untitled <Worker>", Role: role, Status: engine.Running, Done: w.done[id]}
	}
	w.gateway = New(Config{
		Domain: domain, Manager: w, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Session: func(ctx context.Context) (engine.ID, bool) {
			id, ok := ctx.Value(sessionKey{}).(engine.ID)
			return id, ok
		},
		Person: func(context.Context) (engine.Identity, bool) { return engine.Identity{Owner: true}, w.person.Load() },
		Until: func(who engine.Identity) context.Context {
			w.mu.Lock()
			defer w.mu.Unlock()
			if ctx := w.until[who.Token]; ctx != nil {
				return ctx
			}
			return context.Background()
		},
		Login: func(_ context.Context, who engine.Identity) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.logins = append(w.logins, who)
		},
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, nextAnswers) }),
	})
	w.server = &http.Server{Handler: w.gateway, ErrorLog: slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelError),
		BaseContext: func(l net.Listener) context.Context {
			for id, inside := range w.inside {
				if l == inside {
					return context.WithValue(context.Background(), sessionKey{}, id)
				}
			}
			return context.Background()
		}}
	w.outside, w.inside[sessionA], w.inside[sessionB] = listen(t), listen(t), listen(t)
	var served sync.WaitGroup
	for _, l := range []net.Listener{w.outside, w.inside[sessionA], w.inside[sessionB]} {
		served.Go(func() { w.server.Serve(l) })
	}
	t.Cleanup(func() {
		w.server.Close()
		w.gateway.Close()
		served.Wait()
	})
	return w
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// app puts an app on a port of an engine.
func (w *world) app(id engine.ID, port int, h http.HandlerFunc) {
	w.appServer(id, port, &http.Server{Handler: h})
}

func (w *world) appServer(id engine.ID, port int, s *http.Server) {
	l := listen(w.t)
	s.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelError)
	served := make(chan struct{})
	go func() { s.Serve(l); close(served) }()
	w.t.Cleanup(func() { s.Close(); <-served })
	w.place(id, port, l)
}

func (w *world) place(id engine.ID, port int, l net.Listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ports[fmt.Sprintf("%s:%d", id, port)] = l.Addr().String()
}

// change alters what the manager says of an engine.
func (w *world) change(id engine.ID, f func(*Engine)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.engines[id]
	f(&e)
	w.engines[id] = e
}

// end ends an engine: its sockets are gone, and the manager says so.
func (w *world) end(id engine.ID, why string) {
	w.change(id, func(e *Engine) { e.Status, e.Why = engine.Failed, why })
	close(w.done[id])
}

// client sends every host to the listener, as browsers do with *.localhost. It has a jar and does not follow redirects by itself.
func (w *world) client(l net.Listener) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}, ExpectContinueTimeout: deadline}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Jar: jar, Timeout: 4 * deadline, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// reply is an answer that was read to its end.
type reply struct {
	*http.Response
	text string
}

// ask sends a request; headers are "Name: value". An URL without scheme is one of a host.
func (w *world) ask(c *http.Client, method, url, body string, headers ...string) reply {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://"+url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Add(name, value)
	}
	res, err := c.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, url, err)
	}
	return reply{res, string(b)}
}

// get asks as a script of the owner.
func (w *world) get(url string, headers ...string) reply {
	w.t.Helper()
	return w.ask(w.client(w.outside), "GET", url, "", append(headers, bearer_)...)
}

const (
	bearer_ = "Authorization: Bearer " + ownerToken
	html    = "Accept: text/html,*/*;q=0.8"
)

// raw opens a connection and writes to it as it stands.
func (w *world) raw(l net.Listener, text string) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(deadline))
	if _, err := io.WriteString(c, text); err != nil {
		w.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// within waits for a channel's end or value.
func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(deadline):
		t.Fatalf("%s: not within %s", what, deadline)
	}
	return v
}

func (r reply) expect(t *testing.T, status int, contains ...string) {
	t.Helper()
	if r.StatusCode != status {
		t.Errorf("status %d, want %d: %s", r.StatusCode, status, r.text)
	}
	for _, c := range contains {
		if !strings.Contains(r.text, c) {
			t.Errorf("%q is not in the answer: %s", c, r.text)
		}
	}
}

func contextWith(key, value any) context.Context {
	return context.WithValue(context.Background(), key, value)
}
