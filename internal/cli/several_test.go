package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/user"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/api"
)

// scripted is a world whose server answers as a test says: JSON by method and path. It returns what was asked.
func scripted(t *testing.T, answer func(route string) (status int, body string)) (w *world, asked func() []string) {
	t.Helper()
	w = newWorld(t)
	var mu sync.Mutex
	var routes []string
	ts := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		route := r.Method + " " + strings.TrimPrefix(r.URL.Path, api.Base)
		mu.Lock()
		routes = append(routes, route)
		mu.Unlock()
		status, body := answer(route)
		out.Header().Set(api.HeaderVersion, fmt.Sprint(api.Version))
		out.WriteHeader(status)
		out.Write([]byte(body))
	}))
	t.Cleanup(ts.Close)
	w.env = append(w.env, "MUSTER_HOST="+ts.URL)
	return w, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(routes) }
}

// A wrong id does not spare the tokens that are named after it: one of them may be in a stranger's hands.
func TestRevokeGoesOn(t *testing.T) {
	w, asked := scripted(t, func(route string) (int, string) {
		if route == "DELETE /tokens/wrong" {
			return 404, `{"kind":"not_found","message":"there is no token \"wrong\""}`
		}
		return 204, ""
	})
	w.expect(1, "", "muster: there is no token \"wrong\"\n", "token", "revoke", "wrong", "stolen")
	if all := asked(); !slices.Equal(all, []string{"DELETE /tokens/wrong", "DELETE /tokens/stolen"}) {
		t.Errorf("%q", all)
	}
	w.expect(0, "", "", "token", "revoke", "stolen")
}

// When a token ends is told to the second, and by which clock.
func TestTokensEnd(t *testing.T) {
	w, _ := scripted(t, func(string) (int, string) {
		return 200, `[{"id":"3k2vq7x1ma","created_at":"2026-01-02T03:04:05Z","expires_at":"2026-02-03T04:05:06Z"}]`
	})
	ends := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC).Local().Format("2006-01-02 15:04:05 MST")
	if code := w.run("token", "ls"); code != 0 || !strings.Contains(w.out.String(), "  "+ends+"  ") {
		t.Errorf("%d %s%s, want %s", code, w.out.String(), w.err.String(), ends)
	}
}

// A server that does not answer, as one that was stopped, is told of, once.
func TestSlowServer(t *testing.T) {
	told := make(chan struct{})
	w, asked := scripted(t, func(string) (int, string) {
		<-told
		return 200, "[]"
	})
	w.slow = time.Millisecond
	go func() {
		w.err.await(t, "which has not answered yet")
		close(told)
	}()
	if code := w.run("ps"); code != 0 || strings.Count(w.err.String(), "muster: waiting for the server at http://127.0.0.1:") != 1 || len(asked()) != 1 {
		t.Errorf("%d %s", code, w.err.String())
	}
}

// Whose sessions are is shown where one of them is not the asking user's own, also where all are of the same other user.
func TestWhoseSessions(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for users, shown := range map[string]bool{"alice": true, "alice,bob": true, ",alice": true, me.Username + ",alice": true, "": false, ",": false, me.Username: false} {
		var sessions []string
		for i, name := range strings.Split(users, ",") {
			sessions = append(sessions, fmt.Sprintf(`{"id":"s%d","kind":"script","user":"%s"}`, i, name))
		}
		w, _ := scripted(t, func(route string) (int, string) {
			if route == "GET /sessions" {
				return 200, "[" + strings.Join(sessions, ",") + "]"
			}
			return 200, `{"workers":[]}`
		})
		if code := w.run("ps"); code != 0 || strings.HasPrefix(w.out.String(), "USER ") != shown || strings.Count(w.out.String(), "alice") != strings.Count(users, "alice") {
			t.Errorf("sessions of %q: %d %s%s", users, code, w.out.String(), w.err.String())
		}
	}
}

func TestTokensAreOffered(t *testing.T) {
	w, _ := scripted(t, func(string) (int, string) {
		return 200, `[{"id":"3k2vq7x1ma","name":"laptop"},{"id":"4k2vq7x1ma","name":"","user":"alice"}]`
	})
	for args, offers := range map[string]string{
		"": "3k2vq7x1ma\tlaptop, owner\n4k2vq7x1ma\t-, alice\n:4\n", "4k2vq7x1ma ": "3k2vq7x1ma\tlaptop, owner\n:4\n",
	} {
		w.out.Reset()
		if code := w.run(append([]string{"__complete", "token", "revoke"}, strings.Split(args, " ")...)...); code != 0 || w.out.String() != offers {
			t.Errorf("%q: %d %q", args, code, w.out.String())
		}
	}
}

// What was restarted is told, also where a later session's workers could not be.
func TestRestartOfSeveralSessions(t *testing.T) {
	w, _ := scripted(t, func(route string) (int, string) {
		switch route {
		case "GET /engines/w1":
			return 200, `{"id":"w1aaaaaaaaaaaaaa","master_id":"aaaaaaaaaaaaaaaa"}`
		case "GET /engines/w2":
			return 200, `{"id":"w2bbbbbbbbbbbbbb","master_id":"bbbbbbbbbbbbbbbb"}`
		case "POST /sessions/aaaaaaaaaaaaaaaa/restart":
			return 200, `{"workers":[{"id":"new1"}]}`
		case "POST /sessions/bbbbbbbbbbbbbbbb/restart":
			return 409, `{"kind":"conflict","message":"session bbbbbbbb has ended"}`
		}
		return 404, `{"kind":"not_found","message":"no"}`
	})
	w.expect(1, "new1\n", "muster: session bbbbbbbb has ended\n", "restart", "w1", "w2")
	w.expect(1, "", "muster: session bbbbbbbb has ended\n", "restart", "w2")
}
