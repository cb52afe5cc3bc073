package server

import (
	"bufio"
	"context"
	"io"
	"io/fs"
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
	"muster/internal/store"
	"muster/internal/token"
)

// Session A is alice's, session B bob's.
var (
	alice = engine.User{Name: "alice", UID: 20001}
	bob   = engine.User{Name: "bob", UID: 20002}
)

// memory keeps tokens where a test can look.
type memory struct {
	mu  sync.Mutex
	all map[string]store.Token
}

func (m *memory) AddToken(t store.Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[string]store.Token{}
	}
	m.all[t.ID] = t
	return nil
}

func (m *memory) RemoveToken(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.all[id]; !ok {
		return fs.ErrNotExist
	}
	delete(m.all, id)
	return nil
}

func (m *memory) UseToken(string, time.Time) error { return nil }

func (m *memory) Tokens() ([]store.Token, error) { return nil, nil }

// keys is the Access of a server with real tokens.
type keys struct {
	Manager
	tokens *token.Registry
	server *Server
}

func (k *keys) Authenticate(secret string) (Identity, bool) {
	if who, ok := k.Manager.Authenticate(secret); ok {
		return who, true
	}
	return k.tokens.Authenticate(secret)
}

func (k *keys) CreateToken(_ context.Context, u engine.User, name string, good time.Duration) (api.Token, error) {
	secret, t, err := k.tokens.Create(u, name, good)
	return api.Token{ID: t.ID, User: t.User.Name, Token: secret}, err
}

func (k *keys) ListTokens(mine func(engine.User) bool) (list []api.Token) {
	for _, t := range k.tokens.List(mine) {
		list = append(list, api.Token{ID: t.ID, User: t.User.Name})
	}
	return list
}

func (k *keys) RevokeToken(_ context.Context, id string, mine func(engine.User) bool) error {
	_, err := k.tokens.Revoke(id, mine)
	return err
}

func (k *keys) UserNamed(_ context.Context, name string) (engine.User, error) {
	if name != "bob" {
		return engine.User{}, engine.Errorf(engine.Invalid, "there is no user %q", name)
	}
	return bob, nil
}

func (k *keys) Until(who Identity) context.Context {
	if who.Token == "" {
		return context.Background()
	}
	return k.tokens.Until(who.Token)
}

func (k *keys) Audit(_ time.Time, do func(api.AuditEntry) error) error {
	return do(api.AuditEntry{Action: "launch workers", User: "alice", Result: "ok"})
}

// shared starts a server that knows users by their tokens.
func shared(t *testing.T, m *stub) (k *keys, base string) {
	t.Helper()
	tokens, err := token.Open(&memory{})
	if err != nil {
		t.Fatal(err)
	}
	k = &keys{Manager: m, tokens: tokens}
	s := New(Config{Manager: k, Access: k, Version: "1.2.3"})
	k.server = s
	h := httptest.NewUnstartedServer(nil)
	h.Config = s.HTTP()
	h.Start()
	t.Cleanup(func() { s.Close(); h.Close(); tokens.Close() })
	return k, h.URL + api.Base
}

func (k *keys) of(t *testing.T, u engine.User, good time.Duration) (secret, id string) {
	t.Helper()
	secret, kept, err := k.tokens.Create(u, "", good)
	if err != nil {
		t.Fatal(err)
	}
	return secret, kept.ID
}

// Every route, with every method, asked by everybody who may not.
func TestEveryRouteIsGuardedFromOtherUsers(t *testing.T) {
	m := &stub{done: make(chan struct{})}
	m.reader, _ = console.Open(t.TempDir())
	close(m.done)
	k, base := shared(t, m)
	hers, herID := k.of(t, alice, 0)
	his, _ := k.of(t, bob, time.Hour)
	revoked, id := k.of(t, alice, 0)
	if _, err := k.tokens.Revoke(id, func(engine.User) bool { return true }); err != nil {
		t.Fatal(err)
	}
	expired, id := k.of(t, alice, time.Nanosecond)
	<-k.tokens.Until(id).Done()
	asked := 0
	for path, documented := range document(t, base) {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			path := strings.TrimPrefix(path, api.Base)
			route := method + " " + path
			what := string(sessionA)
			switch {
			case ofEngines(path):
				what = string(workerA)
			case strings.HasPrefix(path, "/tokens"):
				what = herID
			}
			url := address(base, path, projectA, what)
			for name, secret := range map[string]string{"no token": "", "a wrong token": hers[:len(hers)-1], "an expired token": expired, "a revoked token": revoked} {
				asked++
				status, body := ask(t, method, url, secret, bodies[route])
				switch {
				case path == "/version", status == 401:
				default:
					t.Errorf("%s with %s: %d %s", route, name, status, body)
				}
			}
			if _, known := documented[strings.ToLower(method)]; !known {
				continue
			}
			status, body := ask(t, method, url, his, bodies[route])
			if strings.Contains(path, "{id}") && status != 404 || status == 200 && (strings.Contains(body, string(sessionA)) || strings.Contains(body, "alice")) {
				t.Errorf("%s with another user's token: %d %s", route, status, body)
			}
			if status, body = ask(t, method, url, hers, bodies[route]); strings.Contains(path, "{id}") && !strings.HasPrefix(path, "/tokens") && (status == 401 || status == 404) {
				t.Errorf("%s with the own token: %d %s", route, status, body)
			}
			if status, _ = ask(t, method, url, hers, bodies[route]); path == "/tokens/{id}" && status != 401 { // it has revoked itself
				t.Errorf("%s with a token that revoked itself: %d", route, status)
			}
			if path == "/tokens/{id}" {
				hers, herID = k.of(t, alice, 0)
			}
		}
	}
	if asked < 7*4*len(routes)/2 {
		t.Errorf("only %d requests", asked)
	}
	for _, c := range m.calls {
		if strings.Contains(c, string(sessionB)) {
			t.Errorf("a foreign session was touched: %s", c)
		}
	}
}

// What a token has begun ends with it: its session is held by a connection, which ends with the token, whatever was asked for.
func TestSessionOfATokenIsHeldByIt(t *testing.T) {
	var asked []string
	m := &stub{create: func(req api.CreateSession) (api.Session, error) {
		asked = append(asked, req.Lease)
		return api.Session{}, nil
	}}
	k, base := shared(t, m)
	hers, _ := k.of(t, alice, 0)
	for _, secret := range []string{hers, ownerToken} {
		if status, body := ask(t, "POST", base+"/sessions", secret, `{"project":"/p","code":"pass"}`); status != 201 {
			t.Errorf("%d %s", status, body)
		}
	}
	if !slices.Equal(asked, []string{api.LeaseConnection, ""}) {
		t.Errorf("the leases are %q", asked)
	}
}

// A token that is asked for a time, however short, is not good for ever.
func TestShortestToken(t *testing.T) {
	k, base := shared(t, &stub{})
	for _, seconds := range []string{"1e-10", "1e-9", "0.5"} {
		if status, body := ask(t, "POST", base+"/tokens", ownerToken, `{"good_for_seconds":`+seconds+`}`); status != 201 {
			t.Errorf("%d %s", status, body)
		}
	}
	for _, kept := range k.tokens.List(func(engine.User) bool { return true }) {
		if kept.Expires.IsZero() {
			t.Errorf("a token never expires: %+v", kept)
		}
	}
}

// A certificate's name may be all names of one domain.
func TestNamesOfACertificate(t *testing.T) {
	s := New(Config{Manager: &stub{}, AllowedHosts: []string{"gpu.example", "*.lab.example"}})
	for host, want := range map[string]bool{
		"gpu.example:7443": true, "box.lab.example": true, "BOX.lab.example:7443": true,
		"lab.example": false, "a.b.lab.example": false, ".lab.example": false, "evil.example": false,
	} {
		if got := s.hostAllowed(&http.Request{Host: host}); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

// Pages of other origins, and those that made their own name lead here, cause nothing with any method.
func TestForeignPagesOnEveryRoute(t *testing.T) {
	k, base := shared(t, &stub{})
	hers, _ := k.of(t, alice, 0)
	for path := range document(t, base) {
		path := strings.TrimPrefix(path, api.Base)
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			for what, header := range map[string][2]string{
				"a foreign origin": {"Origin", "http://evil.example"}, "a null origin": {"Origin", "null"},
				"another site": {"Sec-Fetch-Site", "cross-site"}, "another port": {"Sec-Fetch-Site", "same-site"}, "a foreign name": {"Host", "evil.example"},
			} {
				r, err := http.NewRequest(method, address(base, path, projectA, string(sessionA)), strings.NewReader(bodies[method+" "+path]))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+hers)
				r.Header.Set(header[0], header[1])
				if header[0] == "Host" {
					r.Host = header[1]
				} else if method == "GET" {
					continue // changes nothing, and no page can read what it gets
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 403 {
					t.Errorf("%s %s from %s: %d", method, path, what, resp.StatusCode)
				}
			}
		}
	}
}

// What is being answered of a token ends with it: at once where it is revoked, and at its hour.
func TestStreamsEndWithTheirToken(t *testing.T) {
	for _, how := range []string{"revoked", "expired"} {
		m := &stub{done: make(chan struct{}), bell: console.NewBell()}
		tape := withTape(t, m)
		k, base := shared(t, m)
		good := time.Duration(0)
		if how == "expired" {
			good = time.Second
		}
		hers, id := k.of(t, alice, good)
		other, _ := k.of(t, alice, 0)
		tape.print(sessionA, console.Stdout, "first")
		streams := map[string]io.Reader{}
		for _, secret := range []string{hers, other} {
			r, _ := http.NewRequest("GET", base+"/sessions/"+string(sessionA)+"/console?follow=true", nil)
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set("Accept", typeNDJSON)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := bufio.NewReader(resp.Body)
			if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "first") {
				t.Fatalf("%s: %q, %v", how, line, err)
			}
			streams[secret] = lines
		}
		if how == "revoked" {
			if status, body := ask(t, "DELETE", base+"/tokens/"+id, ownerToken, ""); status != 204 {
				t.Fatalf("revoke: %d %s", status, body)
			}
		}
		ended := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(streams[hers])
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: the stream ended as if all had been told", how)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the stream goes on", how)
		}
		// That of another token of the same user goes on.
		tape.print(sessionA, console.Stdout, "second")
		if line, err := streams[other].(*bufio.Reader).ReadString('\n'); err != nil || !strings.Contains(line, "second") {
			t.Errorf("%s: the other token's stream: %q, %v", how, line, err)
		}
		if status, _ := ask(t, "GET", base+"/sessions", hers, ""); status != 401 {
			t.Errorf("%s: %d", how, status)
		}
	}
}

// Who may make tokens for whom.
func TestWhoMakesTokens(t *testing.T) {
	k, base := shared(t, &stub{})
	hers, _ := k.of(t, alice, 0)
	for _, c := range []struct {
		who, body string
		status    int
		says      string
	}{
		{ownerToken, `{}`, 201, `"token":"muster_`},
		{ownerToken, `{"user":"bob"}`, 201, `"user":"bob"`},
		{ownerToken, `{"user":"nobody-here"}`, 400, "no user"},
		{ownerToken, `{"good_for_seconds":-1}`, 400, "good_for_seconds"},
		{ownerToken, `{"good_for_seconds":1e300}`, 400, "good_for_seconds"},
		{ownerToken, `{"name":"a\u0007"}`, 400, "cannot be printed"},
		{hers, `{}`, 400, "makes no other tokens"},
		{tokenA, `{}`, 404, "tokens are for people"},
	} {
		if status, body := ask(t, "POST", base+"/tokens", c.who, c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d %s", c.body, status, body, c.status, c.says)
		}
	}
}
