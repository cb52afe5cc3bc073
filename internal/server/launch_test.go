package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
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

// An await that lasts longer than any deadline of the connection is still answered.
func TestAwaitIsNotCutByReadDeadlines(t *testing.T) {
	noDeadline := make(chan bool, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Manager: &stub{await: func(context.Context, engine.ID, api.Await, func(api.AwaitProgress)) (api.Awaited, error) {
		return api.Awaited{}, nil
	}}})
	h := s.HTTP()
	served := make(chan error, 1)
	go func() { served <- h.Serve(&spyListener{l, noDeadline}) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body := `{"wait_for_completion":true}`
	fmt.Fprintf(conn, "POST %s/sessions/self/await HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		api.Base, tokenA, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	conn.Close()
	h.Close()
	<-served
	for {
		select {
		case none := <-noDeadline:
			if !none {
				t.Error("a read deadline was set for reading a body")
			}
			continue
		default:
		}
		break
	}
}

// spyListener tells of deadlines that lie some seconds ahead, as the header's and not a body's may.
type spyListener struct {
	net.Listener
	told chan bool
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &spyConn{c, l.told}, err
}

type spyConn struct {
	net.Conn
	told chan bool
}

func (c *spyConn) SetReadDeadline(t time.Time) error {
	if ahead := time.Until(t); ahead > 0 && ahead < headerTimeout-2*time.Second {
		select {
		case c.told <- false:
		default:
		}
	}
	return c.Conn.SetReadDeadline(t)
}
