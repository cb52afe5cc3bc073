package web

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/engine"
)

func TestAppSeesWhoAskedAndUnderWhichName(t *testing.T) {
	w := newWorld(t)
	seen := make(chan *http.Request, 1)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) { seen <- r })
	hostile := []string{
		"X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil", "X-Forwarded-Proto: gopher", "X-Forwarded-Prefix: /evil",
		"X_Forwarded_Prefix: /evil", "X-Forwarded-User: root", "Forwarded: for=6.6.6.6", "X-Custom: kept", "Accept-Encoding: br",
		"Connection: X-Forwarded-Prefix, X-Hop", "X-Hop: gone", "Keep-Alive: 5", "Te: trailers, deflate", "Proxy-Authorization: x",
	}
	for url, prefix := range map[string]string{appHost + "/": "", domain + appPath + "/": appPath} {
		w.get(url, hostile...).expect(t, 200)
		r := within(t, "request", seen)
		host, _, _ := strings.Cut(url, "/")
		want := map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": host, "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": prefix,
			"X-Custom": "kept", "Accept-Encoding": "br", "Te": "trailers", "User-Agent": "Go-http-client/1.1",
		}
		for name, value := range want {
			if got := r.Header.Get(name); got != value || len(r.Header[name]) > 1 {
				t.Errorf("%s: %s is %q, want %q", url, name, r.Header[name], value)
			}
		}
		for name := range r.Header {
			if want[name] == "" {
				t.Errorf("%s: the app was also told %s: %q", url, name, r.Header[name])
			}
		}
		if r.Host != host {
			t.Errorf("Host is %q, want %q", r.Host, host)
		}
	}
}

func TestRedirectsComeOutRight(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.Header.Get("X-To"))
		w.WriteHeader(302)
	})
	for _, c := range []struct{ to, host, path string }{
		{"/x?y#z", "/x?y#z", appPath + "/x?y#z"},
		{appPath + "/x", appPath + "/x", appPath + "/x"},
		{appPath + "x", appPath + "x", appPath + appPath + "x"},
		{"x/y", "x/y", "x/y"},
		{"?q", "?q", "?q"},
		{"https://elsewhere.example/x", "https://elsewhere.example/x", "https://elsewhere.example/x"},
		{"//elsewhere.example/x", "//elsewhere.example/x", "//elsewhere.example/x"},
		{"http://127.0.0.1:8090/a%2Fb?c", "/a%2Fb?c", appPath + "/a%2Fb?c"},
		{"http://localhost:8090", "/", appPath + "/"},
		{"http://0.0.0.0:8090//evil.example/x", "/evil.example/x", appPath + "/evil.example/x"},
		{"http://127.0.0.1:8091/x", "http://127.0.0.1:8091/x", "http://127.0.0.1:8091/x"},
		{"http://HOST/x%2Fy?z", "http://HOST/x%2Fy?z", "http://HOST" + appPath + "/x%2Fy?z"},
		{"http://HOST" + appPath + "/x", "http://HOST" + appPath + "/x", "http://HOST" + appPath + "/x"},
		{"http://HOST", "http://HOST", "http://HOST" + appPath + "/"},
	} {
		for base, want := range map[string]string{appHost: c.host, domain + appPath: c.path} {
			host, _, _ := strings.Cut(base, "/")
			to, want := strings.ReplaceAll(c.to, "HOST", host), strings.ReplaceAll(want, "HOST", host)
			if got := w.get(base+"/", "X-To: "+to).Header.Get("Location"); got != want {
				t.Errorf("%s says %q: the browser gets %q, want %q", base, to, got, want)
			}
		}
	}
}

func TestLocationThatIsNoURLIsLeftAlone(t *testing.T) {
	for _, to := range []string{"http://%zz", "http://a b/", "mailto:x@y", "http://user@localhost/x", ":"} {
		if got := (address{kind: app, host: host{name: "localhost"}, prefix: appPath}).location(to); got != to {
			t.Errorf("%q becomes %q", to, got)
		}
	}
}

func TestCookiesOfAppsStayTheirs(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		for _, c := range []string{
			"a=1", "b=2; Path=/; HttpOnly; Unknown=Attribute", "c=3; path=/sub;Domain=localhost; Max-Age=5", "d=4; Path=relative", "e=5; Path=" + appPath + "/",
			"muster-web-8480=forged; Path=/", " muster-web=forged", "=muster-web-8480=forged", "muster-webx",
		} {
			w.Header().Add("Set-Cookie", c)
		}
		w.Header().Set("Service-Worker-Allowed", "/")
		w.Header().Set("Clear-Site-Data", `"*"`)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(200)
	})
	r := w.get(appHost + "/")
	want := []string{"a=1", "b=2; Path=/; HttpOnly; Unknown=Attribute", "c=3; Path=/sub; Max-Age=5", "d=4; Path=relative", "e=5; Path=" + appPath + "/"}
	if got := r.Header["Set-Cookie"]; !slices.Equal(got, want) {
		t.Errorf("cookies by sub-domain: %q", got)
	}
	if r.Header.Get("Service-Worker-Allowed") == "" || r.Header.Get("Clear-Site-Data") == "" {
		t.Error("an origin of its own may do with itself what it likes")
	}
	r = w.get(domain + appPath + "/")
	want = []string{"a=1", "b=2; Path=" + appPath + "/; HttpOnly; Unknown=Attribute", "c=3; Path=" + appPath + "/sub; Max-Age=5", "d=4; Path=relative", "e=5; Path=" + appPath + "/"}
	if got := r.Header["Set-Cookie"]; !slices.Equal(got, want) {
		t.Errorf("cookies by path: %q", got)
	}
	if r.Header.Get("Service-Worker-Allowed") != "" || r.Header.Get("Clear-Site-Data") != "" {
		t.Error("an app by path reaches beyond its prefix")
	}
	// The interim reply, which passes by the final one's rewriting, too.
	c, in := w.raw(w.outside, "GET / HTTP/1.1\r\nHost: "+appHost+"\r\n"+bearer_+"\r\nConnection: close\r\n\r\n")
	defer c.Close()
	b, _ := io.ReadAll(in)
	if !strings.Contains(string(b), "103 Early Hints") || strings.Contains(string(b), "forged") {
		t.Errorf("interim reply: %s", b)
	}
}

func TestPageTellsWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	text := w.get(appHost + "/status")
	text.expect(t, 503, "Nothing listens yet", `worker "Untitled <Worker>" (`+string(workerA)+`) is running`, "port 8090", "127.0.0.1:$CDSW_APP_PORT")
	if text.Header.Get("Retry-After") != "1" || !strings.HasPrefix(text.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("headers %v", text.Header)
	}
	page := w.get(appHost+"/", html)
	page.expect(t, 503, "Untitled &lt;Worker&gt;", `http-equiv="refresh"`)
	if strings.Contains(page.text, "<Worker>") || page.Header.Get("Retry-After") != "1" {
		t.Errorf("page %s", page.text)
	}
	w.get("read-only-"+string(workerA)+".localhost/").expect(t, 503, "port 8100", "$CDSW_READONLY_PORT")
	w.get("public-"+string(workerA)+".localhost/").expect(t, 503, "port 8080", "$CDSW_PUBLIC_PORT")

	w.change(workerA, func(e *Engine) { e.Status, e.Why = engine.Scheduling, "it waits for 4 GB" })
	w.get(appHost+"/").expect(t, 503, "has not started yet", "scheduling, it waits for 4 GB")
	w.end(workerA, "exit code 7 <b>")
	gone := w.get(appHost+"/", html)
	gone.expect(t, 410, "has ended", "failed, exit code 7 &lt;b&gt;")
	if gone.Header.Get("Retry-After") != "" || strings.Contains(gone.text, "refresh") {
		t.Error("an ended engine is asked again")
	}
}

// An app that starts later is found by the next request: nothing is remembered of the refusal.
func TestAppThatStartsLaterIsFound(t *testing.T) {
	w := newWorld(t)
	w.get(appHost+"/").expect(t, 503)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "up") })
	w.get(appHost+"/").expect(t, 200, "up")
}

func TestAppThatTakesNoConnectionsIsToldInBoundedTime(t *testing.T) {
	w := newWorld(t)
	w.stuck = true
	w.get(appHost+"/").expect(t, 504, "takes no connections")
}

func TestAppThatSpeaksNoHTTP(t *testing.T) {
	w := newWorld(t)
	l := listen(t)
	defer l.Close()
	w.place(workerA, app.port, l)
	for _, says := range []string{"220 <ftp> ready\r\n", "", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"} {
		go func() {
			if c, err := l.Accept(); err == nil {
				io.CopyN(c, c, 0)
				c.Read(make([]byte, 4096))
				io.WriteString(c, says)
				c.Close()
			}
		}()
		w.get(appHost+"/", html).expect(t, 502, "no proper answer", "port 8090")
	}
}

// Python's http.server and its like: HTTP/1.0, a reply as long as the connection.
func TestAppOfTheOldProtocol(t *testing.T) {
	w := newWorld(t)
	l := listen(t)
	defer l.Close()
	w.place(workerA, app.port, l)
	for range 2 {
		go func() {
			if c, err := l.Accept(); err == nil {
				c.Read(make([]byte, 4096))
				io.WriteString(c, "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nas it ends")
				c.Close()
			}
		}()
		w.get(appHost+"/").expect(t, 200, "as it ends")
	}
}

// The engine ends while a request is on its way: what it had answered arrives, and the connections are dropped.
func TestPoolIsKeptAndDroppedWithTheEngine(t *testing.T) {
	w := newWorld(t)
	states := make(chan http.ConnState, 100)
	halfway, finish := make(chan struct{}), make(chan struct{})
	w.appServer(workerA, app.port, &http.Server{ConnState: func(_ net.Conn, st http.ConnState) { states <- st }, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first")
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			close(halfway)
			<-finish
		}
		io.WriteString(w, " last")
	})})
	for range 20 {
		w.get(appHost+"/").expect(t, 200, "first last")
	}
	if n := w.dialled.Load(); n != 1 {
		t.Errorf("20 requests took %d connections", n)
	}
	answer := make(chan reply)
	go func() { answer <- w.get(appHost + "/slow") }()
	within(t, "half an answer", halfway)
	w.end(workerA, "over")
	w.get(appHost+"/").expect(t, 410, "over")
	close(finish)
	if r := within(t, "the rest", answer); r.text != "first last" {
		t.Errorf("answer %q", r.text)
	}
	for closed := false; !closed; { // the app sees it, since goleak sees only ours
		closed = within(t, "the pool's end", states) == http.StateClosed
	}
	waitFor(t, "no pool", func() bool {
		w.gateway.mu.Lock()
		defer w.gateway.mu.Unlock()
		return len(w.gateway.pools) == 0
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, deadline)
		}
	}
}

func TestHeadAndMethodsPass(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "12345")
		w.Header().Set("X-Method", r.Method)
		if r.Method != "HEAD" {
			io.WriteString(w, strings.Repeat("x", 12345))
		}
	})
	c := w.client(w.outside)
	for _, m := range []string{"HEAD", "OPTIONS", "PATCH", "PROPFIND", "DELETE"} {
		r := w.ask(c, m, appHost+"/", "", bearer_)
		if r.StatusCode != 200 || r.Header.Get("X-Method") != m || r.ContentLength != 12345 || (m == "HEAD") != (r.text == "") {
			t.Errorf("%s: %s, length %d, %d bytes", m, r.Status, r.ContentLength, len(r.text))
		}
	}
	_, in := w.raw(w.outside, "CONNECT "+appHost+" HTTP/1.1\r\nHost: "+appHost+"\r\n"+bearer_+"\r\n\r\n")
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT: %v %v", res, err)
	}
}

func TestTrailersPassBothWays(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", b, r.Trailer.Get("X-Request-Sum"))
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "43")
	})
	r, _ := http.NewRequest("POST", "http://"+appHost+"/", io.MultiReader(strings.NewReader("body")))
	r.Header.Set("Authorization", "Bearer "+ownerToken)
	r.Trailer = http.Header{"X-Request-Sum": {"41"}}
	res, err := w.client(w.outside).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if string(b) != "body 41" || res.Trailer.Get("X-Sum") != "42" || res.Trailer.Get("X-Late") != "43" {
		t.Errorf("%q, trailers %v, %v", b, res.Trailer, err)
	}
}
