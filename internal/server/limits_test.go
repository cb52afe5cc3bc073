package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
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

// spyListener remembers the last deadlines that were set for its connections.
type spyListener struct {
	net.Listener
	mu          sync.Mutex
	read, write time.Time
	bodies      int // deadlines of bodies
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{c, l}, nil
}

func (l *spyListener) deadlines() (read, write time.Time, bodies int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read, l.write, l.bodies
}

type spyConn struct {
	net.Conn
	l *spyListener
}

func (c *spyConn) SetReadDeadline(t time.Time) error {
	c.l.mu.Lock()
	if ahead := time.Until(t); ahead > headerTimeout && ahead <= bodyTimeout {
		c.l.bodies++
	}
	c.l.read = t
	c.l.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *spyConn) SetWriteDeadline(t time.Time) error {
	c.l.mu.Lock()
	c.l.write = t
	c.l.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

// serveOn serves s on a listener of its own, as wrap makes it, and returns its address.
func serveOn(t *testing.T, s *Server, wrap func(net.Listener) net.Listener) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, served := s.HTTP(), make(chan error, 1)
	go func() { served <- h.Serve(wrap(l)) }()
	t.Cleanup(func() { s.Close(); h.Close(); <-served; http.DefaultClient.CloseIdleConnections() })
	return l.Addr().String()
}

func post(t *testing.T, address, path, token, head, body string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n%s", api.Base, path, token, head, body)
	return conn, bufio.NewReader(conn)
}

// A body must come in time, and an await that lasts longer than that is still answered.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	spy := &spyListener{}
	s := New(Config{Manager: &stub{await: func(context.Context, engine.ID, api.Await, func(api.AwaitProgress)) (api.Awaited, error) {
		if read, _, bodies := spy.deadlines(); bodies == 0 || !read.IsZero() {
			t.Errorf("%d deadlines for bodies, and while the manager works there is one at %v", bodies, read)
		}
		return api.Awaited{}, nil
	}}})
	address := serveOn(t, s, func(l net.Listener) net.Listener { spy.Listener = l; return spy })
	body := `{"wait_for_completion":true}`
	for _, head := range []string{fmt.Sprintf("Content-Length: %d", len(body)), "Transfer-Encoding: chunked"} {
		sent := body
		if strings.HasPrefix(head, "T") {
			sent = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		}
		_, in := post(t, address, "/sessions/self/await", tokenA, head, sent)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		resp.Body.Close()
	}
}

func TestBodyThatDoesNotCome(t *testing.T) {
	s := New(Config{Manager: &stub{}})
	s.bodyTimeout = time.Millisecond
	address := serveOn(t, s, func(l net.Listener) net.Listener { return l })
	_, in := post(t, address, "/sessions/self/stop", tokenA, "Content-Length: 100", "{")
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusRequestTimeout {
		t.Fatalf("%v %v, want 408", resp, err)
	}
	resp.Body.Close()
}

// Large bodies of one session are read a few at a time; others, and small ones, go on.
func TestLargeBodiesTakeTurns(t *testing.T) {
	s := New(Config{Manager: &stub{}})
	address := serveOn(t, s, func(l net.Listener) net.Listener { return l })
	url := "http://" + address + api.Base + "/sessions/self/stop"
	large := `{"ids":["` + strings.Repeat("x", 2*largeBody) + `"]}`
	var held []func()
	for range largeAtOnce {
		release, err := s.large.take(t.Context(), sessionA)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, release)
	}
	for token, body := range map[string]string{tokenA: `{}`, tokenB: large} {
		if status, reply := ask(t, "POST", url, token, body); status != 200 {
			t.Errorf("%s is held up: %d %s", token, status, reply)
		}
	}
	if status, reply := ask(t, "POST", strings.Replace(url, "self", string(sessionA), 1), ownerToken, large); status != 200 {
		t.Errorf("the owner is held up: %d %s", status, reply)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.large.take(gone, sessionA); engine.KindOf(err) != engine.Unavailable {
		t.Errorf("a fifth one is taken: %v", err)
	}
	answered := make(chan int, 1)
	conn, in := post(t, address, "/sessions/self/stop", tokenA, fmt.Sprintf("Content-Length: %d", len(large)), "")
	go func() {
		io.WriteString(conn, large)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	for waits := 0; waits <= largeAtOnce; { // until it waits for its turn
		s.large.mu.Lock()
		waits = s.large.of[sessionA].users
		s.large.mu.Unlock()
		select {
		case status := <-answered:
			t.Fatalf("a large body was read without a turn: %d", status)
		default:
		}
	}
	for _, release := range held {
		release()
	}
	if status := <-answered; status != 200 {
		t.Errorf("status %d", status)
	}
	if status, reply := ask(t, "POST", url, tokenA, large); status != 200 { // turns are given back
		t.Errorf("%d %s", status, reply)
	}
	s.large.mu.Lock()
	defer s.large.mu.Unlock()
	if len(s.large.of) != 0 {
		t.Errorf("%d sessions are remembered", len(s.large.of))
	}
}

// Whoever has stolen a token cannot use it from another session's engines.
func TestEnginesListenerTakesItsOwnTokenOnly(t *testing.T) {
	s := New(Config{Manager: &stub{}})
	url := "http://" + serveOn(t, s, func(l net.Listener) net.Listener { return ForEngines(sessionA, l) }) + api.Base
	for token, want := range map[string]int{tokenA: 200, tokenB: 401, ownerToken: 401, "": 401, "wrong": 401} {
		status, body := ask(t, "GET", url+"/engines/a", token, "")
		if status != want {
			t.Errorf("%q: %d %s, want %d", token, status, body, want)
		}
		if want == 401 && errorOf(t, body).Kind != "unauthorized" {
			t.Errorf("%q: %s", token, body)
		}
	}
	if status, _ := ask(t, "GET", url+"/version", "", ""); status != 200 {
		t.Errorf("version: %d", status)
	}
}

// countingListener tells how many connections it has accepted.
type countingListener struct {
	net.Listener
	accepted chan struct{}
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted <- struct{}{}
	}
	return c, err
}

func TestConnectionsOfEnginesAreBounded(t *testing.T) {
	s := New(Config{Manager: &stub{}})
	count := &countingListener{accepted: make(chan struct{}, 2*maxConnections)}
	address := serveOn(t, s, func(l net.Listener) net.Listener {
		count.Listener = l
		return ForEngines(sessionA, count)
	})
	var conns []net.Conn
	for range maxConnections + 1 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for range maxConnections {
		<-count.accepted
	}
	last := conns[maxConnections]
	fmt.Fprintf(last, "GET %s/version HTTP/1.1\r\nHost: localhost\r\n\r\n", api.Base)
	select {
	case <-count.accepted:
		t.Errorf("connection %d was accepted", maxConnections+1)
	default:
	}
	conns[0].Close() // makes room
	resp, err := http.ReadResponse(bufio.NewReader(last), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
}

func TestIdleConnectionsEnd(t *testing.T) {
	if h := New(Config{Manager: &stub{}}).HTTP(); h.IdleTimeout != time.Minute {
		t.Errorf("idle connections end after %v", h.IdleTimeout)
	}
}

// A client that asks for a stream and does not read it does not hold up the server's end.
func TestReaderThatDoesNotRead(t *testing.T) {
	m := &stub{}
	c := withTape(t, m)
	for range 256 { // more than socket buffers hold
		c.print(workerA, console.Stdout, strings.Repeat("x", console.MaxPayload))
	}
	s := New(Config{Manager: m})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, served := s.HTTP(), make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s/sessions/self/console?follow=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", api.Base, tokenA)
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("the server does not end: %v", err)
		h.Close()
	}
	<-served
}

// A connection goes on after a stream without a deadline for writing.
func TestStreamLeavesNoDeadline(t *testing.T) {
	spy := &spyListener{}
	m := &stub{}
	withTape(t, m)
	close(m.done)
	url := "http://" + serveOn(t, New(Config{Manager: m}), func(l net.Listener) net.Listener { spy.Listener = l; return spy }) + api.Base
	for _, path := range []string{"/sessions/self/console?follow=true", "/engines/wa1/log?follow=true"} {
		if status, body := ask(t, "GET", url+path, tokenA, ""); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
	if status, body := ask(t, "POST", url+"/sessions/self/await", tokenA, `{"wait_for_completion":true}`); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	eventually(t, "writing has no end", func() bool { _, write, _ := spy.deadlines(); return write.IsZero() })
}

// Close ends the streams, and no other request.
func TestCloseLeavesOtherRequests(t *testing.T) {
	var s *Server
	m := &stub{}
	m.launch = func(ctx context.Context, _ engine.ID, _ api.LaunchWorkers) (api.Workers, func(), error) {
		s.Close()
		return api.Workers{}, func() {}, ctx.Err()
	}
	var base string
	s, base = start(t, m)
	if status, body := ask(t, "POST", base+"/sessions/self/workers", tokenA, `{"n":1,"cpu":1,"memory":1}`); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// A turn ends with the decoding: what the manager does then may take long.
func TestTurnsEndWithTheDecoding(t *testing.T) {
	var s *Server
	m := &stub{await: func(context.Context, engine.ID, api.Await, func(api.AwaitProgress)) (api.Awaited, error) {
		s.large.mu.Lock()
		defer s.large.mu.Unlock()
		if len(s.large.of) != 0 {
			t.Error("a large body still has its turn")
		}
		return api.Awaited{}, nil
	}}
	var base string
	s, base = start(t, m)
	large := `{"wait_for_completion":true,"ids":["` + strings.Repeat("x", 2*largeBody) + `"]}`
	if status, body := ask(t, "POST", base+"/sessions/self/await", tokenA, large); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}
