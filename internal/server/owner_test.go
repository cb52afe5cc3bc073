package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"muster/api"
)

// serveUnix serves m on a unix socket and returns what asks there.
func serveUnix(t *testing.T, m *stub) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Manager: m})
	h, served := s.HTTP(), make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(func() { c.CloseIdleConnections(); s.Close(); h.Close(); <-served })
	return c
}

// The owner of a session is the process that asks, not whichever has its number.
func TestOwnerIsWhoAsks(t *testing.T) {
	var got *api.CreateSession
	m := &stub{}
	m.create = func(req api.CreateSession) (api.Session, error) {
		got = &req
		return m.Session(sessionA)
	}
	unix := serveUnix(t, m)
	_, tcp := start(t, m)
	me, other := os.Getpid(), os.Getppid()
	for _, c := range []struct {
		name   string
		client *http.Client
		base   string
		pid    int
		lease  string
		status int
		want   string
	}{
		{"itself", unix, "http://muster" + api.Base, me, "", 201, fmt.Sprint(me, " ")},
		{"itself, or its connection", unix, "http://muster" + api.Base, me, "connection", 201, fmt.Sprint(me, " ")},
		{"another process", unix, "http://muster" + api.Base, other, "", 400, ""},
		{"another machine's number through a forwarded socket", unix, "http://muster" + api.Base, other, "connection", 201, "0 connection"},
		{"over TCP", http.DefaultClient, tcp, me, "", 400, ""},
		{"over TCP, or its connection", http.DefaultClient, tcp, me, "connection", 201, "0 connection"},
		{"its connection", http.DefaultClient, tcp, 0, "connection", 201, "0 connection"},
		{"nobody", http.DefaultClient, tcp, 0, "", 201, "0 "},
		{"a lease that there is not", http.DefaultClient, tcp, 0, "love", 400, ""},
	} {
		got = nil
		body := fmt.Sprintf(`{"code":"x","project":"/p","owner_pid":%d`, c.pid)
		if c.lease != "" {
			body += fmt.Sprintf(`,"lease":%q`, c.lease)
		}
		req, _ := http.NewRequestWithContext(t.Context(), "POST", c.base+"/sessions", strings.NewReader(body+"}"))
		req.Header.Set("Authorization", "Bearer "+ownerToken)
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		reply, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || (got == nil) != (c.want == "") {
			t.Errorf("%s: %d %s, want %d", c.name, resp.StatusCode, reply, c.status)
		} else if got != nil && fmt.Sprint(got.OwnerPID, " ", got.Lease) != c.want {
			t.Errorf("%s: the manager was asked for %d %q, want %s", c.name, got.OwnerPID, got.Lease, c.want)
		}
	}
}

// A process that dies before the manager looks for it may have given its number to a stranger: its session is ended.
func TestOwnerThatDiesMeanwhile(t *testing.T) {
	var conn net.Conn
	m := &stub{}
	m.create = func(api.CreateSession) (api.Session, error) {
		conn.Close()
		return m.Session(sessionA)
	}
	unix := serveUnix(t, m)
	dial := unix.Transport.(*http.Transport).DialContext
	unix.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		conn = c
		return c, err
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://muster"+api.Base+"/sessions",
		strings.NewReader(fmt.Sprintf(`{"code":"x","project":"/p","owner_pid":%d}`, os.Getpid())))
	req.Header.Set("Authorization", "Bearer "+ownerToken)
	req.Header.Set("Content-Type", "application/json")
	if resp, err := unix.Do(req); err == nil {
		resp.Body.Close()
		t.Error("a closed connection was answered")
	}
	want := "end " + string(sessionA) + " by the end of the process that held the session"
	eventually(t, "the session is ended", func() bool { return slices.Contains(m.said(), want) })
}
