package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// logged is what a server said.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// turns is how many large replies of a session are under way or wait for that.
func (s *Server) turns(session engine.ID) int {
	s.replies.mu.Lock()
	defer s.replies.mu.Unlock()
	if mine := s.replies.of[session]; mine != nil {
		return mine.users
	}
	return 0
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A reply that nobody reads is given up, and not held as long as its connection lasts.
func TestReplyThatIsNotRead(t *testing.T) {
	for name, request := range map[string]string{
		"list":  "GET %s/sessions/self/workers HTTP/1.1\r\n",
		"await": "POST %s/sessions/self/await HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 28\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			said := &logged{}
			m := &stub{many: 60_000} // more than socket buffers hold
			m.await = func(context.Context, engine.ID, api.Await, func(api.AwaitProgress)) (api.Awaited, error) {
				list, err := m.Workers(sessionA, "")
				return api.Awaited{Failures: list.Workers}, err
			}
			s := New(Config{Manager: m, Log: slog.New(slog.NewTextHandler(said, nil))})
			s.replyTimeout = 100 * time.Millisecond
			conn, err := net.Dial("tcp", serveOn(t, s, func(l net.Listener) net.Listener { return l }))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, request+"Host: localhost\r\nAuthorization: Bearer %s\r\n\r\n%s", api.Base, tokenA, `{"wait_for_completion":true}`)
			conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is given up", func() bool { return s.turns(sessionA) == 0 })
			n, err := io.Copy(io.Discard, conn)
			if err != nil && !strings.Contains(err.Error(), "reset") || n > 40<<20 {
				t.Errorf("%d bytes came, %v", n, err)
			}
			if text := said.String(); text != "" {
				t.Errorf("the log says: %s", text)
			}
		})
	}
}

// Large replies of one session are made a few at a time; others, and small ones, go on.
func TestLargeRepliesTakeTurns(t *testing.T) {
	m := &stub{many: largeReply + 1}
	withTape(t, m).print(workerA, console.Stdout, "1\n")
	s, base := start(t, m)
	var held []func()
	for range largeAtOnce {
		release, err := s.replies.take(t.Context(), sessionA)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, release)
	}
	for _, path := range []string{"/sessions/self", "/version"} {
		if status, reply := ask(t, "GET", base+path, tokenA, ""); status != 200 {
			t.Errorf("%s is held up: %d %s", path, status, reply)
		}
	}
	for token, session := range map[string]engine.ID{tokenB: sessionB, ownerToken: sessionA} {
		if status, reply := ask(t, "GET", base+"/sessions/"+string(session)+"/workers", token, ""); status != 200 {
			t.Errorf("%s is held up: %d %s", token, status, reply)
		}
	}
	const original = "/projects/ada/one/dashboards/" + string(sessionA) + "/workers"
	requests := map[string]string{
		"GET /sessions/self/workers": "", "GET " + original: "", "POST /sessions/self/await": `{"wait_for_completion":true}`,
		"POST /sessions/self/workers": `{"n":1000,"cpu":1,"memory":1}`, "GET /engines/wa1/log?raw=true&tail=1": "",
	}
	answered := make(chan string, len(requests))
	var asking sync.WaitGroup
	for request, body := range requests {
		method, path, _ := strings.Cut(request, " ")
		url := base + path
		if path == original {
			url = strings.TrimSuffix(base, api.Base) + api.Original + path
		}
		asking.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer "+tokenA)
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				answered <- request + ": " + err.Error()
				return
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err = errors.Join(err, json.Unmarshal(b, new(any))); err != nil {
				request += fmt.Sprintf(": %v in %.80q", err, b)
			}
			answered <- fmt.Sprint(request, " ", resp.StatusCode)
		})
	}
	eventually(t, "all wait for their turn", func() bool { return s.turns(sessionA) == largeAtOnce+len(requests) })
	select {
	case what := <-answered:
		t.Errorf("answered without a turn: %s", what)
	default:
	}
	for _, release := range held {
		release()
	}
	asking.Wait()
	for range requests {
		if what := <-answered; !strings.HasSuffix(what, " 200") && !strings.HasSuffix(what, "engines/wa1 409") {
			t.Error(what)
		}
	}
	eventually(t, "all turns are given back", func() bool { return s.turns(sessionA) == 0 })
}
