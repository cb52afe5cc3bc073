package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// What a browser says of a page that the person opens, by a link or typed.
const (
	opens = "Sec-Fetch-Mode: navigate"
	page_ = "Sec-Fetch-Dest: document"
)

// visit follows redirects as the person's browser does.
func (w *world) visit(c *http.Client, where string, site string) (reply, int) {
	w.t.Helper()
	for n := 1; n <= 10; n++ {
		r := w.ask(c, "GET", where, "", html, opens, page_, "Sec-Fetch-Site: "+site)
		if r.StatusCode != http.StatusSeeOther {
			return r, n
		}
		to, err := r.Request.URL.Parse(r.Header.Get("Location"))
		if err != nil {
			w.t.Fatal(err)
		}
		where = strings.TrimPrefix(to.String(), "http://")
	}
	w.t.Fatal("no end of redirects")
	return reply{}, 0
}

// The owner's own browser is asked for nothing, and gets the cookie of the one address.
func TestPersonNeedsNoLogin(t *testing.T) {
	w := newWorld(t)
	w.person.Store(true)
	for _, k := range []*kind{app, readOnly} {
		w.app(workerA, k.port, told)
	}
	for _, where := range []string{appHost + "/x", "read-only-" + appHost + "/x", domain + appPath + "/x"} {
		for _, site := range []string{"none", "cross-site"} { // typed, and a link in a mail
			c := w.client(w.outside)
			r, n := w.visit(c, where, site)
			r.expect(t, 200, "GET", "/x cookie=[] auth=[]")
			if n != 4 {
				t.Errorf("%s: %d requests", where, n)
			}
			w.browse2(c, 200, where, 1)
			base, _ := url.Parse("http://" + domain + "/login")
			if got := c.Jar.Cookies(base); len(got) != 0 {
				t.Errorf("cookies at the login: %v", got)
			}
		}
	}
	w.ask(w.client(w.outside), "GET", domain+"/login", "", html, opens, page_).expect(t, 200, "Logged in")
	w.person.Store(false)
	r, _ := w.visit(w.client(w.outside), appHost+"/", "none")
	r.expect(t, 200, "password")
}

// Being the person's program is worth a login of a browser in which the person opens a page, and nothing else.
func TestPersonIsKnownAtTheLoginOnly(t *testing.T) {
	w := newWorld(t)
	w.person.Store(true)
	w.app(workerA, app.port, told)
	c := w.client(w.outside)
	login := domain + "/login?to=" + url.QueryEscape("http://"+appHost+"/")
	for _, headers := range [][]string{
		{html},                        // a browser that does not tell what it is for
		{html, opens},                 // nor this
		{opens, page_, "Accept: */*"}, // not to be shown
		{html, page_, "Sec-Fetch-Mode: no-cors"},
		{html, page_, opens, "Via: 1.1 proxy"},
		{html, page_, opens, "X-Forwarded-For: 192.0.2.1"},
		{html, page_, opens, "x-forwarded-proto: https"},
		{html, page_, opens, "Forwarded: for=192.0.2.1"},
		{html, page_, opens, "X-Real-IP: 192.0.2.1"},
		{html, page_, opens, "Upgrade: websocket", "Connection: Upgrade"},
	} {
		if r := w.ask(c, "GET", login, "", headers...); r.Header.Get("Location") != "" {
			t.Errorf("%q is sent to %s", headers, r.Header.Get("Location"))
		}
	}
	for _, headers := range [][]string{ // what foreign pages cause
		{html, opens, "Sec-Fetch-Dest: iframe", "Sec-Fetch-Site: cross-site"},
		{html, opens, "Sec-Fetch-Dest: iframe", "Sec-Fetch-Site: same-site"},
		{html, "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Sec-Fetch-Site: cross-site"},
		{html, "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-site", "Origin: http://localhost:9999"},
		{html, opens, page_, "Sec-Fetch-Site: cross-site", "Origin: http://evil.example"},
	} {
		w.ask(c, "GET", login, "", headers...).expect(t, 403)
	}
	w.ask(c, "POST", domain+"/login", "to="+url.QueryEscape("http://"+appHost+"/"), "Content-Type: application/x-www-form-urlencoded",
		html, opens, page_, "Sec-Fetch-Site: same-origin", "Origin: http://"+domain).expect(t, 200, "password")
	// The address itself, and an upgrade, want the cookie.
	w.ask(c, "GET", appHost+"/", "").expect(t, 401)
	w.ask(c, "POST", appHost+"/", "", html, opens, page_, "Sec-Fetch-Site: none").expect(t, 401)
	if _, _, res := w.websocket(w.outside, handshake(appHost, "/", "Origin: http://"+appHost)); res.StatusCode != 401 {
		t.Errorf("websocket: %s", res.Status)
	}
	// A name of somebody else's, and an engine's listener.
	w.ask(c, "GET", "evil.example/login", "", html, opens, page_, "Sec-Fetch-Site: none").expect(t, http.StatusMisdirectedRequest)
	w.ask(w.client(w.inside[sessionB]), "GET", appHost+"/", "", html, opens, page_).expect(t, 404)
	// A wrong token is wrong, not overlooked.
	w.ask(c, "GET", domain+"/login?token=wrong", "", html, opens, page_).expect(t, 401, "not known")
}

// Who logged in for one session is asked again for another's engine, and the owner who follows a session's link stays the owner.
func TestLoginsOfSeveralWorths(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, told)
	w.app(workerB, app.port, told)
	hostB := string(workerB) + "." + domain
	link := func(token, host string) string {
		return domain + "/login?token=" + token + "&to=" + url.QueryEscape("http://"+host+"/")
	}
	c := w.client(w.outside)
	w.browse2(c, 200, link("A", appHost), 3)
	for _, host := range []string{hostB, "zzzzzzzzzzzzzzzz." + domain} { // one that is not there looks the same
		r, trail := w.browse(c, host+"/")
		r.expect(t, 200, "Log in", "password")
		if len(trail) != 2 {
			t.Errorf("%q", trail)
		}
	}
	w.browse2(c, 200, link(ownerToken, hostB), 3)
	w.app(workerB, readOnly.port, told)
	w.browse2(c, 200, link("A", appHost), 3)
	w.browse2(c, 200, "read-only-"+hostB+"/", 4)
}
