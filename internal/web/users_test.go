package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"muster/engine"
)

var (
	alice = engine.User{Name: "alice", UID: 20001}
	bob   = engine.User{Name: "bob", UID: 20002}
)

// of makes the engines of a session a user's.
func (w *world) of(session engine.ID, u engine.User) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, e := range w.engines {
		if e.Session == session {
			e.User = u
			w.engines[id] = e
		}
	}
}

// A user reaches the engines of his sessions, by whatever way he shows who he is, and no others: those do not exist for him.
func TestUsersReachTheirOwn(t *testing.T) {
	w := newWorld(t)
	w.of(sessionA, alice)
	w.of(sessionB, bob)
	w.app(workerA, app.port, func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "hers") })
	for token, want := range map[string]string{"alice": "hers", "bob": "no engine", ownerToken: "hers", "A": "hers", "B": "no engine"} {
		r := w.ask(w.client(w.outside), "GET", appHost+"/", "", "Authorization: Bearer "+token)
		if got := strings.ToLower(r.text); !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", token, r.StatusCode, r.text)
		}
	}
	// A cookie is worth what its maker was, for its address.
	for _, token := range []string{"alice", "bob"} {
		c := w.client(w.outside)
		w.ask(c, "GET", appHost+"/?muster_token="+token, "", html)
		r := w.ask(c, "GET", appHost+"/", "", html)
		if (token == "alice") != strings.Contains(r.text, "hers") {
			t.Errorf("with %s's cookie: %d %s", token, r.StatusCode, r.text)
		}
	}
	if len(w.logins) != 2 || w.logins[0].User != alice || w.logins[1].User != bob {
		t.Errorf("logins: %+v", w.logins)
	}
}

// What a token that ends had opened ends with it: streams, upgraded connections and cookies; those of another go on.
func TestWhatATokenOpenedEndsWithIt(t *testing.T) {
	w := newWorld(t)
	w.of(sessionA, alice)
	until, revoke := context.WithCancel(t.Context())
	w.until = map[string]context.Context{"t1": until}
	ended := make(chan error, 10)
	w.app(workerA, app.port, echo(ended))
	w.app(workerA, readOnly.port, func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(rw, "first")
		http.NewResponseController(rw).Flush()
		<-r.Context().Done()
		ended <- nil
	})
	hers := "Authorization: Bearer alice"
	_, ws, res := w.websocket(w.outside, handshake(appHost, "/", hers))
	if res.StatusCode != 101 {
		t.Fatal(res.Status)
	}
	owners, stays, _ := w.websocket(w.outside, handshake(appHost, "/", bearer_))
	_, in := w.raw(w.outside, "GET / HTTP/1.1\r\nHost: read-only-"+appHost+"\r\n"+hers+"\r\n\r\n")
	stream, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(stream.Body)
	if line, err := body.ReadString('\n'); line != "first\n" {
		t.Fatal(line, err)
	}
	c := w.client(w.outside)
	w.ask(c, "GET", "read-only-"+appHost+"/?muster_token=alice", "", html)
	revoke()
	if b, err := io.ReadAll(body); err == nil || len(b) != 0 {
		t.Errorf("the stream: %q %v", b, err)
	}
	if b, _ := io.ReadAll(ws); len(b) != 0 {
		t.Errorf("the websocket: %q", b)
	}
	within(t, "the app's end", ended)
	within(t, "the other app's end", ended)
	if r := w.ask(c, "GET", "read-only-"+appHost+"/", ""); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("with the cookie: %d %s", r.StatusCode, r.text)
	}
	wsWrite(owners, 1, "still here", true)
	if _, got, err := wsRead(stays); got != "/ still here" || err != nil {
		t.Errorf("the owner's: %q %v", got, err)
	}
}
