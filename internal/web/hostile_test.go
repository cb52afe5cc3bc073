package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"muster/engine"
)

// Requests whose end can be read in two ways. The app must get one request with one length, and what follows must be a
// request of its own to us, which has no token here.
func TestNoRequestIsSmuggledPastTheGateway(t *testing.T) {
	w := newWorld(t)
	l := listen(t)
	w.place(workerA, app.port, l)
	heads := make(chan string, 10)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			var head strings.Builder
			for {
				line, err := in.ReadString('\n')
				if head.WriteString(line); err != nil || line == "\r\n" {
					break
				}
			}
			heads <- head.String()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			io.Copy(io.Discard, in)
			c.Close()
		}
	}()
	defer func() { w.gateway.Close(); l.Close(); <-served }() // it serves one after the other, idle connections too
	reached := 0
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: " + appHost + "\r\n\r\n"
	for _, lengths := range []string{
		"Content-Length: 6\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nContent-Length: 6",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"Transfer-Encoding: identity\r\nContent-Length: 6",
		"Transfer-Encoding: xchunked",
		"Transfer-Encoding: \x0bchunked",
		"Transfer-Encoding : chunked",
		" Transfer-Encoding: chunked",
		"X: y\r\n Transfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
		"Content-Length: 5\r\nContent-Length: 6",
		"Content-Length: 5, 6",
		"Content-Length: +5",
		"Content-Length: -1",
		"Content-Length: 5\r\nConnection: Content-Length",
		"X: a\rTransfer-Encoding: chunked",
		"X: a\nContent-Length: 5",
		"Content_Length: 5",
	} {
		c, in := w.raw(w.outside, "POST /first HTTP/1.1\r\nHost: "+appHost+"\r\n"+bearer_+"\r\n"+lengths+"\r\n\r\n0\r\n\r\n"+smuggled)
		c.(*net.TCPConn).CloseWrite()
		replies, _ := io.ReadAll(in)
		if n := strings.Count(string(replies), "HTTP/1.1 2"); n > 1 {
			t.Errorf("%q: %d replies of the app: %s", lengths, n, replies)
		}
		c.Close()
	drain:
		for {
			select {
			case head := <-heads:
				if head == "" {
					continue // a connection that the gateway had ready and did not need
				}
				reached++
				lower := strings.ToLower(head)
				if !strings.HasPrefix(head, "POST /first HTTP/1.1\r\n") || strings.Count(lower, "\ncontent-length:")+strings.Count(lower, "\ntransfer-encoding:") > 1 ||
					strings.Contains(lower, "owner") {
					t.Errorf("%q: the app got %q", lengths, head)
				}
			default:
				break drain
			}
		}
	}
	if reached == 0 {
		t.Error("the app was never reached: nothing was tried")
	}
	t.Logf("%d of the requests were taken, each as one", reached)
}

func TestNothingIsInjectedIntoHeaders(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Location", r.URL.Query().Get("to")) })
	for _, line := range []string{
		"GET /x%0d%0aSet-Cookie:%20evil=1?muster_token=OWNER&y=%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: " + appHost,
		"GET /x%0d%0aSet-Cookie:%20evil=1?%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: " + appHost,
		"GET /login?token=OWNER&to=http://" + appHost + "/%250d%250aSet-Cookie:evil=1%0d%0aSet-Cookie:evil=1 HTTP/1.1\r\nHost: " + domain,
		"GET " + appPath + "?%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: " + domain,
		"GET " + appPath + "/?muster_token=OWNER&to=/%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: " + domain,
		"GET //evil.example/?muster_token=OWNER HTTP/1.1\r\nHost: " + appHost,
		"GET /\\evil.example/?muster_token=OWNER HTTP/1.1\r\nHost: " + appHost,
		"GET http://" + appHost + "//evil.example/?muster_token=OWNER HTTP/1.1\r\nHost: evil.example",
	} {
		c, in := w.raw(w.outside, line+"\r\n"+html+"\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, cookie := range res.Cookies() {
			if strings.Contains(cookie.Name, "evil") {
				t.Errorf("%q: cookie %v", line, cookie)
			}
		}
		to := res.Header.Get("Location")
		if strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) || strings.Contains(to, "OWNER") || strings.HasPrefix(to, "http://evil") {
			t.Errorf("%q leads to %q", line, to)
		}
		c.Close()
	}
}

// The request line's host counts, and it is the one that is looked at.
func TestAbsoluteRequestLineNamesTheHost(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+r.RequestURI) })
	_, in := w.raw(w.outside, "GET http://evil.example/ HTTP/1.1\r\nHost: "+appHost+"\r\n"+bearer_+"\r\n\r\n")
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("%v %v", res, err)
	}
	_, in = w.raw(w.outside, "GET http://"+appHost+"?x HTTP/1.1\r\nHost: evil.example\r\n"+bearer_+"\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != appHost+"/?x" {
		t.Errorf("%s %q", res.Status, b)
	}
}

// A number is served if the connection came in on it, as the gateway's address in a session's network.
func TestNumbersAreServedWhereTheyAreReached(t *testing.T) {
	g := New(Config{Domain: "192.0.2.7:80"}) // behind an address translation
	defer g.Close()
	local := &net.TCPAddr{IP: net.IPv4(100, 100, 0, 1), Port: 80}
	for h, want := range map[string]bool{"100.100.0.1:80": true, "100.100.0.1": true, "[::ffff:100.100.0.1]:80": true, "100.100.0.2:80": false, "192.0.2.7:80": true, "192.0.2.8": false, "127.0.0.9": true, "[::1]:80": true} {
		r := (&http.Request{Host: h}).WithContext(contextWith(http.LocalAddrContextKey, local))
		if _, ok := g.serves(r); ok != want {
			t.Errorf("%s: %v", h, ok)
		}
	}
}

func TestAnEngineOfNoSessionIsTheOwnersOnly(t *testing.T) {
	for _, c := range []struct {
		v    visitor
		e    Engine
		want bool
	}{
		{visitor{}, Engine{}, false},
		{visitor{Identity: engine.Identity{Owner: true}}, Engine{}, true},
		{visitor{Identity: engine.Identity{Session: sessionA}}, Engine{Session: sessionA}, true},
		{visitor{Identity: engine.Identity{Session: sessionA}}, Engine{Session: sessionB}, false},
	} {
		if c.v.mayReach(c.e) != c.want {
			t.Errorf("%+v", c)
		}
	}
}
