package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/token"
)

func TestBadRequests(t *testing.T) {
	_, base := start(t, &stub{})
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		kind, says               string
	}{
		{"unknown route", "GET", "/nothing", "", 404, "not_found", "there is no route /muster/v1/nothing"},
		{"wrong method", "PUT", "/sessions/self", "", 405, "invalid", "PUT is not possible on /muster/v1/sessions/self, only DELETE, GET, HEAD"},
		{"not JSON", "POST", "/sessions/self/workers", "{\n \"n\": x}", 400, "invalid", "line 2, column 7: invalid character 'x'"},
		{"NaN", "POST", "/sessions/self/workers", `{"cpu": NaN}`, 400, "invalid", "line 1, column 9"},
		{"cut off", "POST", "/sessions/self/workers", `{"n": 1`, 400, "invalid", "unexpected end of JSON input"},
		{"no body", "POST", "/sessions/self/workers", "", 400, "invalid", "body is required"},
		{"text for a number", "POST", "/sessions/self/workers", `{"n":"two","cpu":1,"memory":1}`, 400, "invalid", `n: expected integer (it is "two")`},
		{"half a worker", "POST", "/sessions/self/workers", `{"n":1.5,"cpu":1,"memory":1}`, 400, "invalid", "n: expected integer (it is 1.5)"},
		{"too large a number", "POST", "/sessions/self/workers", `{"n":1,"cpu":1e999,"memory":1}`, 400, "invalid", "1e999"},
		{"missing", "POST", "/sessions/self/workers", `{"n":1,"cpu":1}`, 400, "invalid", "memory"},
		{"null for a number", "POST", "/sessions/self/workers", `{"n":null,"cpu":1,"memory":1}`, 400, "invalid", "n"},
		{"env value no string", "POST", "/sessions/self/workers", `{"n":1,"cpu":1,"memory":1,"env":{"A":7}}`, 400, "invalid", "env.A: expected string (it is 7)"},
		{"not UTF-8", "POST", "/sessions/self/workers", "{\"n\":1,\"cpu\":1,\"memory\":1,\"code\":\"\xff\"}", 400, "invalid", "not UTF-8 (line 1, column 35)"},
		{"half a surrogate", "POST", "/sessions/self/workers", `{"n":1,"cpu":1,"memory":1,"code":"\udc80"}`, 400, "invalid", "half of a surrogate pair"},
		{"an array", "POST", "/sessions/self/stop", `[1]`, 400, "invalid", "expected object"},
		{"bad position", "GET", "/engines/x?stream=sideways", "", 404, "not_found", "x"},
		{"bad query", "GET", "/engines/wa1/log?follow=perhaps", "", 400, "invalid", "follow"},
		{"bad stream", "GET", "/engines/wa1/log?stream=sideways", "", 400, "invalid", "stream"},
		{"self is nobody", "GET", "/sessions/self", "", 404, "not_found", "a person's request"},
	} {
		token := tokenA
		if strings.HasPrefix(c.name, "self") {
			token = ownerToken
		}
		status, body := ask(t, c.method, base+c.path, token, c.body)
		e := errorOf(t, body)
		if status != c.status || e.Kind != c.kind || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %d %s\n want %d %s %q", c.name, status, body, c.status, c.kind, c.says)
		}
	}
}

func TestBodyTooLarge(t *testing.T) {
	_, base := start(t, &stub{})
	for _, c := range []struct {
		token, session string
		size, status   int
		says           string
	}{
		{tokenA, "self", maxSessionBody, 413, "at most 4 MB"},
		{tokenA, "self", maxSessionBody - 100, 200, ""},
		{ownerToken, string(sessionA), maxSessionBody, 200, ""},
		{ownerToken, string(sessionA), maxBodyBytes, 413, "at most 16 MB"},
	} {
		huge := `{"n":1,"cpu":1,"memory":1,"code":"` + strings.Repeat("x", c.size) + `"}`
		for _, r := range []io.Reader{strings.NewReader(huge), io.MultiReader(strings.NewReader(huge))} { // announced, or in chunks
			resp := send(t, t.Context(), "POST", base+"/sessions/"+c.session+"/workers", c.token, r)
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("%s sends %d bytes: %d %s, want %d %s", c.token, len(huge), resp.StatusCode, body, c.status, c.says)
			}
			if c.status != 200 && errorOf(t, string(body)).Kind != "invalid" {
				t.Errorf("%s", body)
			}
		}
	}
}

func TestOtherContentType(t *testing.T) {
	_, base := start(t, &stub{})
	status, body := ask(t, "POST", base+"/sessions/self/stop", tokenA, `{}`, "Content-Type", "text/html")
	if status != 415 || errorOf(t, body).Kind != "invalid" {
		t.Errorf("%d %s", status, body)
	}
}

func TestKindsAndStatuses(t *testing.T) {
	want := map[engine.Kind]int{
		engine.Invalid: 400, engine.Unauthorized: 401, engine.NotFound: 404, engine.Conflict: 409,
		engine.NoCapacity: 409, engine.Unavailable: 503, engine.Internal: 500,
	}
	for kind, status := range want {
		m := &stub{create: func(api.CreateSession) (api.Session, error) {
			return api.Session{}, fmt.Errorf("outside: %w", engine.Errorf(kind, "inside").WithHint("do this"))
		}}
		_, base := start(t, m)
		got, body := ask(t, "POST", base+"/sessions", ownerToken, bodies["POST /sessions"])
		if e := errorOf(t, body); got != status || e != (api.Error{Kind: string(kind), Message: "outside: inside", Hint: "do this"}) {
			t.Errorf("%s: %d %+v", kind, got, e)
		}
	}
}

func TestPanicIsAnInternalError(t *testing.T) {
	m := &stub{create: func(api.CreateSession) (api.Session, error) { panic("oh") }}
	_, base := start(t, m)
	status, body := ask(t, "POST", base+"/sessions", ownerToken, bodies["POST /sessions"])
	if status != 500 || errorOf(t, body).Kind != "internal" {
		t.Errorf("%d %s", status, body)
	}
}

func TestGuards(t *testing.T) {
	_, base := start(t, &stub{})
	for _, c := range []struct {
		name    string
		headers []string
		status  int
		says    string
	}{
		{"localhost", []string{"Host", "localhost:99"}, 200, ""},
		{"loopback 6", []string{"Host", "[::1]:99"}, 200, ""},
		{"unix clients' name", []string{"Host", "muster"}, 200, ""},
		{"a name of somebody's", []string{"Host", "evil.example"}, 403, `"evil.example"`},
		{"another address", []string{"Host", "10.1.2.3"}, 403, "10.1.2.3"},
		{"a page of another origin", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "evil.example"},
		{"this version", []string{api.HeaderVersion, "1"}, 200, ""},
		{"a newer client", []string{api.HeaderVersion, "2"}, 400, "version 2 of the API, this server only version 1"},
		{"no number", []string{api.HeaderVersion, "one"}, 400, `"one"`},
	} {
		status, body := ask(t, "POST", base+"/sessions/self/interrupt", tokenA, "", c.headers...)
		if status != c.status && !(c.status == 200 && status == 204) || !strings.Contains(body, strings.ReplaceAll(c.says, `"`, `\"`)) {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.status)
		}
		if status >= 400 {
			errorOf(t, body)
		}
	}
}

func TestBasicAuthAndHeaders(t *testing.T) {
	_, base := start(t, &stub{})
	req, _ := http.NewRequest("GET", base+"/sessions/self", nil)
	req.SetBasicAuth(tokenA, "")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get(api.HeaderVersion) != "1" {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	resp = send(t, t.Context(), "GET", base+"/sessions/self", "", nil)
	resp.Body.Close()
	if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" || resp.Header.Get(api.HeaderVersion) != "1" {
		t.Errorf("%v", resp)
	}
}

func TestUnixSocket(t *testing.T) {
	s := New(Config{Manager: &stub{}})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ts := &httptest.Server{Listener: l, Config: s.HTTP()}
	ts.Start()
	defer ts.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s/version HTTP/1.0\r\nHost: muster\r\n\r\n", api.Base)
	if b, _ := io.ReadAll(conn); !strings.Contains(string(b), `"api":1`) {
		t.Errorf("%s", b)
	}
}

// Whatever is sent, the answer is JSON: a reply or an api.Error, never a mistake of ours.
func FuzzBodies(f *testing.F) {
	for _, b := range bodies {
		f.Add(b)
	}
	f.Add(`{"n":-1,"cpu":"x","env":{"a":[]},"code":"\ud83d\ude00 \\udc80"}`)
	f.Add(`{"n":1e99,"cpu":null,"memory":{}}`)
	f.Add(`"\u`)
	f.Add(`{"master_id":"aaaaaaaaaaaaaaaa","cpu":["0.5"],"memory":" 1 ","env":[""],"nvidia_gpu":[]}`)
	tokens, _ := token.Open(&memory{})
	keys := &keys{Manager: &stub{}, tokens: tokens}
	h := New(Config{Manager: keys, Access: keys}).Handler()
	f.Fuzz(func(t *testing.T, body string) {
		for route := range bodies {
			method, path, _ := strings.Cut(route, " ")
			r := httptest.NewRequest(method, address(api.Base, path, projectA, string(sessionA)), strings.NewReader(body))
			r.Host = "muster"
			r.Header.Set("Authorization", "Bearer "+ownerToken)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if !json.Valid(w.Body.Bytes()) && w.Code != http.StatusNoContent {
				t.Errorf("%s with %q: %d, no JSON: %s", route, body, w.Code, w.Body)
			}
			if w.Code >= 500 {
				t.Errorf("%s with %q: %d %s", route, body, w.Code, w.Body)
			}
			if w.Code >= 400 {
				errorOf(t, w.Body.String())
			}
		}
	})
}
