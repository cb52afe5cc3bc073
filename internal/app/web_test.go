package app

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/store"
)

func TestDomainIsWhatBrowsersFind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for asked, host := range map[string]string{
		"": "localhost", "127.0.0.1:80": "localhost", "0.0.0.0:80": "localhost", "[::1]:80": "localhost", ":80": "localhost",
		"localhost:80": "localhost", "box.example:80": "box.example", "box.example:0": "box.example",
	} {
		if got, want := domain(asked, l), fmt.Sprintf("%s:%d", host, port); got != want {
			t.Errorf("%q: %s, want %s", asked, got, want)
		}
	}
	if got := domain("none", nil); got != "" || new(app).hosts(got, nil) != nil {
		t.Errorf("without a listener: %q", got)
	}
}

func TestWebListener(t *testing.T) {
	if l, err := listenWeb("none", 1); l != nil || err != nil {
		t.Errorf("none: %v, %v", l, err)
	}
	first, err := listenWeb("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	// The usual port is taken now, by this listener or another one.
	second, err := listenWeb("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for _, l := range []net.Listener{first, second} {
		if a := l.Addr().(*net.TCPAddr); !a.IP.IsLoopback() || a.Port == 0 {
			t.Errorf("listens at %s", a)
		}
	}
	if at := second.Addr().(*net.TCPAddr).Port; at == webPort {
		t.Errorf("two listeners at port %d", at)
	}
	// What was asked for is got, or said not to be.
	taken := second.Addr().String()
	for _, asked := range []string{taken, "203.0.113.7:0", "nonsense"} {
		l, err := listenWeb(asked, 0)
		if err == nil {
			l.Close()
			t.Errorf("%s: listens at %s", asked, l.Addr())
			continue
		}
		if engine.KindOf(err) != engine.Unavailable || !strings.Contains(err.Error(), "browsers cannot be served at "+asked) ||
			!strings.Contains(engine.HintOf(err), "--web") {
			t.Errorf("%s: %v, try: %s", asked, err, engine.HintOf(err))
		}
	}
}

// The addresses that people have kept of a session lead to it as long as it goes on, whatever server it has.
func TestWebStaysWhereSessionsAre(t *testing.T) {
	records, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	before := func() int {
		port, err := webBefore(records)
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	l, err := listenWeb("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	usual, port := domain("", l), l.Addr().(*net.TCPAddr).Port
	var ids []engine.ID
	for i, web := range []string{"localhost:7", usual, "box.example:80", "", "localhost:999999"} {
		ids = append(ids, engine.NewID())
		if err := records.AddSession(store.Session{ID: ids[i], Created: time.Unix(int64(i), 0), Web: web}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := before(); got != port {
		t.Fatalf("port %d, want %d", got, port)
	}
	other, err := listenWeb("", port) // that is taken
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if got := domain("", other); got == usual {
		t.Errorf("two listeners at %s", got)
	}
	l.Close()
	again, err := listenWeb("", before())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if got := domain("", again); got != usual {
		t.Errorf("it is free, and listened is at %s instead of %s", got, usual)
	}
	for _, id := range ids {
		if err := records.EndSession(id, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := before(); got != 0 {
		t.Errorf("of sessions that have ended: %d", got)
	}
	if got, err := webBefore(nil); got != 0 || err != nil {
		t.Errorf("without records: %d, %v", got, err)
	}
}

// Web addresses are for TCP. On the unix socket, where the Host is whatever a client says, there is the API alone.
func TestFrontLeadsByTheListener(t *testing.T) {
	say := func(what string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, what) })
	}
	server := httptest.NewUnstartedServer(front(say("gateway"), say("API")))
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	served := make(chan struct{})
	go func() { server.Config.Serve(l); close(served) }()
	defer func() { l.Close(); <-served }()
	for network, address := range map[string]string{"tcp": server.Listener.Addr().String(), "unix": path} {
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: abcdefgh12345678.localhost\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		c.Close()
		if want := map[string]string{"tcp": "gateway", "unix": "API"}[network]; !strings.HasSuffix(string(b), want) {
			t.Errorf("%s: %s", network, b)
		}
	}
}
