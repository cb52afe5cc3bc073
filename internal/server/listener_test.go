package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"muster/api"
)

// The end of a session's listener ends the connections that nobody is answered on, though their other ends live on, and
// those that are just answered when they are.
func TestConnectionsEndWithTheirListener(t *testing.T) {
	s := New(Config{Manager: &stub{}})
	asked, answer := make(chan struct{}), make(chan struct{})
	h := s.HTTP()
	inner := h.Handler
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(asked)
			<-answer
		}
		inner.ServeHTTP(w, r)
	})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(ForEngines(sessionA, tcp)) }()
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(30 * time.Second))
		return c, bufio.NewReader(c)
	}
	ask := func(c net.Conn, path string) { fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path) }
	hear := func(r *bufio.Reader) {
		t.Helper()
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	ended := func(what string, r *bufio.Reader) {
		t.Helper()
		if b, err := r.ReadByte(); err != io.EOF {
			t.Errorf("%s: read %q, %v; want its end", what, b, err)
		}
	}
	idle, fromIdle := dial()
	ask(idle, api.Base+"/version")
	hear(fromIdle)
	slow, fromSlow := dial()
	ask(slow, "/slow")
	<-asked
	tcp.Close()
	<-served
	ended("idle", fromIdle)
	close(answer)
	hear(fromSlow)
	ended("answered", fromSlow)
}
