package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a scripted server and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderVersion, "1")
		h(w, r)
	}))
	c := dial(t, ts.URL)
	t.Cleanup(ts.Close)
	return c
}

func dial(t *testing.T, address string) *Client {
	t.Helper()
	c, err := New(Config{Address: address, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Each method asks the route that it is named for.
func TestMethodsAndRoutes(t *testing.T) {
	var asked string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get(api.HeaderVersion) != "1" {
			t.Errorf("%s: headers %v", asked, r.Header)
		}
		if r.Method == "GET" && r.URL.Path == api.Base+"/sessions" {
			io.WriteString(w, "[]")
			return
		}
		io.WriteString(w, "{}")
	})
	ctx := t.Context()
	for want, call := range map[string]func() error{
		"GET /version":                            func() error { _, err := c.Version(ctx); return err },
		"GET /openapi.json":                       func() error { _, err := c.OpenAPI(ctx); return err },
		"GET /sessions":                           func() error { _, err := c.Sessions(ctx); return err },
		`POST /sessions {"project":"/p"}`:         func() error { _, err := c.CreateSession(ctx, api.CreateSession{Project: "/p"}); return err },
		"GET /sessions/a%2Fb":                     func() error { _, err := c.Session(ctx, "a/b"); return err },
		"DELETE /sessions/s":                      func() error { return c.EndSession(ctx, "s") },
		"POST /sessions/s/interrupt":              func() error { return c.Interrupt(ctx, "s") },
		"POST /sessions/s/stdin?from=0&last=true": func() error { return c.Stdin(ctx, "s", strings.NewReader("")) },
		"GET /sessions/s/workers":                 func() error { _, err := c.Workers(ctx, "s", ""); return err },
		"GET /sessions/s/workers?group=a+b":       func() error { _, err := c.Workers(ctx, "s", "a b"); return err },
		`POST /sessions/s/restart {"ids":["x"]}`:  func() error { _, err := c.Restart(ctx, "s", api.Restart{IDs: []string{"x"}}); return err },
		"GET /engines/e":                          func() error { _, err := c.Engine(ctx, "e"); return err },
		`POST /sessions/s/workers {"n":1,"cpu":2,"memory":3}`: func() error {
			_, err := c.Launch(ctx, "s", api.LaunchWorkers{N: 1, CPU: 2, Memory: 3})
			return err
		},
		`POST /sessions/s/await {"wait_for_completion":true}`: func() error {
			_, err := c.Await(ctx, "s", api.Await{Completion: true}, nil)
			return err
		},
		`POST /sessions/s/stop {"ids":["x"]}`: func() error { _, err := c.Stop(ctx, "s", api.Stop{IDs: []string{"x"}}); return err },
		"GET /sessions/s/console?follow=true&from=p": func() error {
			_, err := readAll(c.ConsoleLines(ctx, "s", "p", true))
			return err
		},
		"GET /engines/e/log?raw=true&stream=stderr": func() error {
			_, err := readAll(c.LogBytes(ctx, "e", LogOptions{Stream: "stderr"}))
			return err
		},
		"GET /engines/e/log?tail=3": func() error { _, err := readAll(c.LogLines(ctx, "e", LogOptions{Tail: 3})); return err },
		"GET /engines/e/log":        func() error { _, err := readAll(c.LogLines(ctx, "e", LogOptions{})); return err },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := strings.Replace(asked, " "+api.Base, " ", 1); got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
	}
}

func readAll(r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestErrorsOfTheServer(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(409)
		io.WriteString(w, `{"kind":"conflict","message":"it is so","hint":"do that"}`)
	})
	_, err := c.Session(t.Context(), "s")
	var e *engine.Error
	if !errors.As(err, &e) || *e != (engine.Error{Kind: engine.Conflict, Message: "it is so", Hint: "do that"}) || Unreachable(err) {
		t.Errorf("%#v", err)
	}
}

// What answers badly, and what it is said to be.
func TestNoServerOfOurs(t *testing.T) {
	raw := func(reply string) func(t *testing.T) string {
		return func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Read(make([]byte, 4096))
				io.WriteString(conn, reply)
				conn.Close()
			}()
			t.Cleanup(func() { l.Close(); <-done })
			return "http://" + l.Addr().String()
		}
	}
	for _, c := range []struct {
		name       string
		address    func(t *testing.T) string
		says, hint string
	}{
		{"no socket", func(t *testing.T) string { return "unix://" + filepath.Join(t.TempDir(), "none.sock") }, "no server answers at unix:///", "muster up"},
		{"a stale socket", staleSocket, "no server answers at unix:///", "muster up"},
		{"nobody listens", func(t *testing.T) string {
			l, _ := net.Listen("tcp", "127.0.0.1:0")
			defer l.Close()
			return "http://" + l.Addr().String()
		}, "no server answers at http://127.0.0.1", "muster up"},
		{"not HTTP", raw("SSH-2.0-OpenSSH_9.2\r\n"), `no muster server: net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0`, "address"},
		{"a web page", raw("HTTP/1.0 200 OK\r\n\r\n<html>Welcome" + strings.Repeat("!", 200)), `it said "<html>Welcome!!!`, "address"},
		{"a proxy's error", raw("HTTP/1.0 502 Bad Gateway\r\n\r\noops"), `it said "oops"`, "address"},
		{"our header, rubbish", raw("HTTP/1.0 200 OK\r\n" + api.HeaderVersion + ": 1\r\n\r\n{{{"), `it said "{{{"`, "address"},
		{"our header, rubbish error", raw("HTTP/1.0 500 Oh\r\n" + api.HeaderVersion + ": 1\r\n\r\n{}"), `it said "{}"`, "address"},
		{"nothing", raw("HTTP/1.0 200 OK\r\n\r\n"), "it said nothing", "address"},
		{"another version", raw("HTTP/1.0 200 OK\r\n" + api.HeaderVersion + ": 7\r\n\r\n{}"), "speaks version 7 of the API, this client version 1", "same version"},
		{"cut off", raw("HTTP/1.1 200 OK\r\n" + api.HeaderVersion + ": 1\r\nContent-Length: 100\r\n\r\n{"), "broke: unexpected EOF", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := dial(t, c.address(t)).Session(t.Context(), "s")
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(engine.HintOf(err), c.hint) {
				t.Errorf("%v (hint %q), want %q", err, engine.HintOf(err), c.says)
			}
			if engine.KindOf(err) != engine.Unavailable || !Unreachable(err) {
				t.Errorf("kind %s", engine.KindOf(err))
			}
		})
	}
}

func staleSocket(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return "unix://" + path
}

func TestAddresses(t *testing.T) {
	for _, bad := range []string{"", "localhost:80", "unix://relative", "http://", "http://h/path", "unix:", "://"} {
		if _, err := New(Config{Address: bad}); engine.KindOf(err) != engine.Invalid || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("%q", bad)) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAbstractSocket(t *testing.T) {
	name := fmt.Sprintf("@muster-client-test-%d", os.Getpid())
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderVersion, "1")
		io.WriteString(w, `{"api":1,"muster":"here"}`)
	}))
	ts.Listener.Close()
	ts.Listener = l
	ts.Start()
	defer ts.Close()
	if v, err := dial(t, "unix:///"+name).Version(t.Context()); err != nil || v.Muster != "here" {
		t.Errorf("%+v %v", v, err)
	}
}

func TestEndedContextIsItsOwnError(t *testing.T) {
	in := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { close(in); <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-in; cancel() }()
	if _, err := c.Version(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAwaitWithProgress(t *testing.T) {
	lines := []string{`{"progress":{"done":1,"of":2}}`, `{"progress":{"done":2,"of":2}}`, `{"result":{"workers":[{"id":"w"}],"failures":[]}}`}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, l := range lines {
			fmt.Fprintln(w, l)
		}
	})
	var seen []int
	progress := func(p api.AwaitProgress) { seen = append(seen, p.Done) }
	a, err := c.Await(t.Context(), "s", api.Await{}, progress)
	if err != nil || len(a.Workers) != 1 || fmt.Sprint(seen) != "[1 2]" {
		t.Errorf("%+v %v %v", a, seen, err)
	}
	lines = []string{`{"error":{"kind":"not_found","message":"gone"}}`}
	if _, err := c.Await(t.Context(), "s", api.Await{}, progress); engine.KindOf(err) != engine.NotFound || err.Error() != "gone" {
		t.Error(err)
	}
	lines = lines[:0]
	if _, err := c.Await(t.Context(), "s", api.Await{}, progress); !Unreachable(err) {
		t.Error(err)
	}
}

// A stdin that nobody types into does not hold up the end.
func TestStdinIsLeftBehind(t *testing.T) {
	began := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // the script does not read
	})
	in, typed := io.Pipe()
	go io.WriteString(typed, "x")
	defer typed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if err := c.Stdin(ctx, "s", in); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What was typed and not answered is said again to the next server, which leaves out what the last one wrote.
func TestStdinGoesOnWithTheNextServer(t *testing.T) {
	var mu sync.Mutex
	var got strings.Builder
	requests := 0
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderVersion, "1")
		body, _ := io.ReadAll(r.Body)
		from, _ := strconv.Atoi(r.URL.Query().Get("from"))
		mu.Lock()
		defer mu.Unlock()
		if from > got.Len() {
			t.Errorf("%d bytes are missing", from-got.Len())
		}
		requests++
		fresh := body[min(got.Len()-from, len(body)):]
		if requests%2 == 1 { // one that is killed half way
			got.Write(fresh[:len(fresh)/2])
			panic(http.ErrAbortHandler)
		}
		got.Write(fresh)
		json.NewEncoder(w).Encode(api.Stdin{Written: int64(got.Len()), Closed: r.URL.Query().Get("last") == "true"})
	}))
	t.Cleanup(ts.Close)
	away := 0
	c, err := New(Config{Address: ts.URL, Token: "secret", Away: func(err error) {
		if err != nil {
			away++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	in, typed := io.Pipe()
	var want strings.Builder
	go func() {
		for n := range 50_000 {
			fmt.Fprintf(io.MultiWriter(&want, typed), "line %d\n", n)
		}
		typed.Close()
	}()
	if err := c.Stdin(t.Context(), "s", in); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("%d bytes, want %d", got.Len(), want.Len())
	}
	if away != requests/2 || requests > 5000 {
		t.Errorf("%d requests for 50,000 writes, away %d times", requests, away)
	}
}

// A server that is killed right after it created a session is waited for.
func TestLeaseWaitsForTheNextServer(t *testing.T) {
	requests := 0
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderVersion, "1")
		if requests++; requests == 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(ts.Close)
	var away []error
	c, err := New(Config{Address: ts.URL, Token: "secret", Away: func(err error) { away = append(away, err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s, err := c.Lease(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if len(away) != 2 || !Unreachable(away[0]) || away[1] != nil {
		t.Errorf("%v", away)
	}
}

// A script that reads no more ends it, and so does an error of what is typed, which closes stdin.
func TestStdinEnds(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(api.Stdin{Closed: true})
	})
	in, typed := io.Pipe()
	go func() {
		for _, err := io.WriteString(typed, "x"); err == nil; _, err = io.WriteString(typed, "x") {
		}
	}()
	if err := c.Stdin(t.Context(), "s", in); err != nil {
		t.Error(err)
	}
	in.Close()
	var asked []string
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		io.WriteString(w, "{}")
	})
	broken := errors.New("broken")
	if err := c.Stdin(t.Context(), "s", io.MultiReader(strings.NewReader("xy"), iotest.ErrReader(broken))); err != broken {
		t.Error(err)
	}
	if got := asked[len(asked)-1]; !strings.HasSuffix(got, "&last=true") {
		t.Errorf("%q", asked)
	}
}

// record is a frame whose position is its number, so that a server can go on from one.
func record(n int) []byte {
	return console.AppendFrame(nil, console.Record{Engine: "e", Stream: console.Stdout, Payload: fmt.Appendf(nil, "r%d", n)},
		console.Position(fmt.Sprint(n)))
}

func TestConsoleIsTakenUpAgain(t *testing.T) {
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("from"))
		from := 0
		json.Unmarshal([]byte(r.URL.Query().Get("from")), &from)
		w.Write(record(from + 1))
		half := record(from + 2)
		if from+2 < 6 {
			w.Write(half[:len(half)-1]) // a frame cut off
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Write(half)
	})
	s, err := c.Console(t.Context(), "s", "", true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []string
	for {
		r, _, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(r.Payload))
	}
	if fmt.Sprint(got) != "[r1 r2 r3 r4 r5 r6]" || fmt.Sprintf("%q", asked) != `["" "1" "2" "3" "4"]` || s.Position() != "6" {
		t.Errorf("%v, asked %q, at %s", got, asked, s.Position())
	}
}

// A stream that breaks again and again without a record is given up.
func TestConsoleThatOnlyBreaks(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	s, err := c.Console(t.Context(), "s", "", true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Next(); !Unreachable(err) || !strings.Contains(err.Error(), "broke") || n != 1+maxRetries {
		t.Errorf("%v after %d", err, n)
	}
}

// A server that takes no more connections is no other program, and is waited for.
func TestTooManyConnections(t *testing.T) {
	refused := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if refused++; refused == 2 {
			io.WriteString(w, `[]`)
			return
		}
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `{"kind":"unavailable","message":"too many connections","hint":"close some"}`)
	})
	_, err := c.Sessions(t.Context())
	if !Unreachable(err) || err.Error() != "too many connections" || engine.HintOf(err) != "close some" {
		t.Errorf("%v", err)
	}
	if _, err := c.Sessions(t.Context()); err != nil {
		t.Error(err)
	}
}
