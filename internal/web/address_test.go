package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"muster/engine"
)

func TestAddressesLeadToTheirPorts(t *testing.T) {
	w := newWorld(t)
	for _, id := range []engine.ID{workerA, sessionA} {
		for _, k := range []*kind{app, readOnly, public} {
			w.app(id, k.port, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, k.name+" of "+string(id)+" "+r.RequestURI)
			})
		}
	}
	for _, id := range []engine.ID{workerA, sessionA} {
		s := string(id)
		for url, want := range map[string]string{
			s + ".localhost:8480/x?y=1":                    "app of " + s + " /x?y=1",
			s + ".LOCALHOST/":                              "app of " + s + " /",
			s + ".localhost:9999/forwarded/port":           "app of " + s + " /forwarded/port",
			"read-only-" + s + ".localhost:8480/x":         "read-only of " + s + " /x",
			"public-" + s + ".localhost:8480/x":            "public of " + s + " /x",
			"localhost:8480/app/" + s + "/x?y":             "app of " + s + " /x?y",
			"127.0.0.1:8480/app/" + s + "/":                "app of " + s + " /",
			"[::1]:8480/app/" + s + "/":                    "app of " + s + " /",
			"localhost:8480/read-only/" + s + "/a%2Fb//c/": "read-only of " + s + " /a%2Fb//c/",
			"localhost:8480/public/" + s + "/../x;y":       "public of " + s + " /../x;y",
			s + ".localhost:8480/a%2Fb//c?q=a;b&q=%zz+":    "app of " + s + " /a%2Fb//c?q=a;b&q=%zz+",
			s + ".localhost:8480/app/" + s + "/":           "app of " + s + " /app/" + s + "/", // by one way only
		} {
			w.get(url).expect(t, 200, want)
			if got := w.get(url).text; got != want {
				t.Errorf("%s leads to %q, want %q", url, got, want)
			}
		}
	}
}

func TestOtherAddressesGoToTheNextHandler(t *testing.T) {
	w := newWorld(t)
	for _, url := range []string{
		"localhost:8480/", "localhost:8480/muster/v1/version", "127.0.0.1:1/x", "[::1]/x", "localhost/api/v1/site/config/",
		"localhost/app/", "localhost/app/not-an-id/x", "localhost/apps/" + string(workerA) + "/", "localhost/%61pp/" + string(workerA) + "/",
	} {
		w.get(url).expect(t, 200, nextAnswers)
	}
}

func TestAddressByPathGetsItsSlash(t *testing.T) {
	w := newWorld(t)
	r := w.get("localhost:8480" + appPath + "?a=b")
	r.expect(t, http.StatusPermanentRedirect)
	if l := r.Header.Get("Location"); l != appPath+"/?a=b" {
		t.Errorf("Location %q", l)
	}
}

// A foreign page that makes its own name lead here finds nobody, neither engines nor the API.
func TestForeignHostsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secret") })
	for _, host := range []string{
		"evil.example", "localhost.evil.example", "evillocalhost", string(workerA) + ".evil.example", string(workerA) + ".localhost.evil.example:8480",
		"10.1.2.3:8480", "[fe80::1]:8480", "localhost:8480:1", "localhost:", "localhost:x", "localhost:123456", "evil@localhost",
		"localhost.", string(workerA) + "..localhost.", "[localhost]", "[127.0.0.1]:80", "local_host", "", "[::1", "::1",
	} {
		c, in := w.raw(w.outside, "GET "+appPath+"/ HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+ownerToken+"\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		// Go's own server refuses some of them before us.
		if res.StatusCode != http.StatusMisdirectedRequest && res.StatusCode != http.StatusBadRequest {
			t.Errorf("Host %q: %s", host, res.Status)
		}
		c.Close()
	}
	r := w.ask(w.client(w.outside), "GET", "localhost/", "", "Host: evil.example", html)
	r.expect(t, http.StatusMisdirectedRequest, "does not go by the name", "use localhost", "evil.example")
}

func TestSubdomainsOfNoEngineAreSaidToBeUnknown(t *testing.T) {
	w := newWorld(t)
	for _, label := range []string{"api", "public-api", "a.b", "app-" + string(workerA), "x." + string(workerA), "read-only-public-" + string(workerA)} {
		w.get(label+".localhost:8480/").expect(t, 404, "no engine", label)
	}
	w.get("zzzzzzzzzzzzzzzz.localhost/").expect(t, 404, "zzzzzzzzzzzzzzzz")
}

func TestConfiguredNameIsServedBesidesLocalhost(t *testing.T) {
	g := New(Config{Domain: "Muster.Example:80"})
	defer g.Close()
	for h, label := range map[string]string{"muster.example": "", "x.muster.example": "x", "localhost": "", "x.localhost": "x"} {
		got, ok := g.serves(&http.Request{Host: h})
		if !ok || got.label != label {
			t.Errorf("%s: %+v %v", h, got, ok)
		}
	}
	if _, ok := g.serves(&http.Request{Host: "other.example"}); ok {
		t.Error("other.example is served")
	}
}

// The API goes by the names of its certificate, which may be all of one domain.
func TestNamesOfTheAPI(t *testing.T) {
	g := New(Config{Names: []string{"gpu.example", "*.lab.example"}, Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, nextAnswers)
	})})
	defer g.Close()
	for host, want := range map[string]int{
		"gpu.example:7443": 200, "box.lab.example": 200, "BOX.lab.example:7443": 200,
		"lab.example": 421, "a.b.lab.example": 421, ".lab.example": 421, "evil.example": 421, "x.gpu.example": 421,
	} {
		out := httptest.NewRecorder()
		g.ServeHTTP(out, &http.Request{Method: "GET", Host: host, URL: &url.URL{Path: "/muster/v1/version"}})
		if out.Code != want {
			t.Errorf("%s: %d", host, out.Code)
		}
	}
}
