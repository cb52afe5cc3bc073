package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
)

func launched(release func()) func(context.Context, engine.ID, api.LaunchWorkers) (api.Workers, func(), error) {
	return func(_ context.Context, _ engine.ID, req api.LaunchWorkers) (api.Workers, func(), error) {
		var w api.Workers
		for range req.N {
			w.Workers = append(w.Workers, worker(workerA))
		}
		return w, release, nil
	}
}

// The client has the whole reply while release has not returned: the master is on when its workers begin.
func TestReleaseComesAfterTheReply(t *testing.T) {
	gotReply := make(chan struct{})
	released := make(chan error, 1)
	var releases atomic.Int32
	m := &stub{launch: launched(func() {
		releases.Add(1)
		select {
		case <-gotReply:
			released <- nil
		case <-time.After(patience):
			released <- fmt.Errorf("release was called, and the client has no reply")
		}
	})}
	_, base := start(t, m)
	resp := send(t, t.Context(), "POST", base+"/sessions/self/workers", tokenA, strings.NewReader(`{"n":200,"cpu":1,"memory":1}`))
	defer resp.Body.Close()
	if resp.ContentLength <= 0 {
		t.Errorf("the reply has no Content-Length: its end would come after release")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || strings.Count(string(body), string(workerA)) != 200 {
		t.Errorf("the reply is %d bytes, error %v", len(body), err)
	}
	close(gotReply)
	if err := <-released; err != nil {
		t.Error(err)
	}
	if n := releases.Load(); n != 1 {
		t.Errorf("release was called %d times", n)
	}
}

// A client that is gone before its reply does not leave its workers waiting for ever.
func TestReleaseWhenTheClientIsGone(t *testing.T) {
	inLaunch, gone, released := make(chan struct{}), make(chan struct{}), make(chan struct{}, 2)
	m := &stub{}
	m.launch = func(ctx context.Context, id engine.ID, req api.LaunchWorkers) (api.Workers, func(), error) {
		close(inLaunch)
		<-gone
		<-ctx.Done() // the server has noticed
		return launched(func() { released <- struct{}{} })(ctx, id, req)
	}
	_, base := start(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-inLaunch
		cancel()
		close(gone)
	}()
	req, _ := http.NewRequestWithContext(ctx, "POST", base+"/sessions/self/workers", strings.NewReader(`{"n":1,"cpu":1,"memory":1}`))
	req.Header.Set("Authorization", "Bearer "+tokenA)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Fatal("the request was answered")
	}
	select {
	case <-released:
	case <-time.After(patience):
		t.Fatal("release was not called")
	}
	if len(released) != 0 {
		t.Error("release was called twice")
	}
}

func TestReleaseWhenTheReplyBreaks(t *testing.T) {
	var releases atomic.Int32
	s := New(Config{Manager: &stub{launch: launched(func() { releases.Add(1) })}})
	r, _ := http.NewRequest("POST", api.Base+"/sessions/self/workers", strings.NewReader(`{"n":1,"cpu":1,"memory":1}`))
	r.Host = "muster"
	r.Header.Set("Authorization", "Bearer "+tokenA)
	func() {
		defer func() { recover() }()
		s.Handler().ServeHTTP(&panicking{header: http.Header{}}, r)
	}()
	if n := releases.Load(); n != 1 {
		t.Errorf("release was called %d times", n)
	}
}

type panicking struct{ header http.Header }

func (p *panicking) Header() http.Header       { return p.header }
func (p *panicking) WriteHeader(int)           {}
func (p *panicking) Write([]byte) (int, error) { panic("the writer broke") }

func TestLaunchOfNone(t *testing.T) {
	_, base := start(t, &stub{})
	status, body := ask(t, "POST", base+"/sessions/self/workers", tokenA, `{"n":0,"cpu":1,"memory":1,"env":null,"later":"field"}`)
	if status != 200 || strings.TrimSpace(body) != `{"workers":[]}` {
		t.Errorf("%d %s", status, body)
	}
}
