package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"muster/engine"
)

// browse follows redirects as a browser does, at most ten.
func (w *world) browse(c *http.Client, url string) (reply, []string) {
	w.t.Helper()
	var trail []string
	for range 10 {
		r := w.ask(c, "GET", url, "", html)
		trail = append(trail, url)
		if r.StatusCode != http.StatusSeeOther {
			return r, trail
		}
		to, err := r.Request.URL.Parse(r.Header.Get("Location"))
		if err != nil {
			w.t.Fatal(err)
		}
		url = strings.TrimPrefix(to.String(), "http://")
	}
	w.t.Fatalf("no end of redirects: %q", trail)
	return reply{}, nil
}

// told answers with what the app saw.
func told(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s cookie=%s auth=%s", r.Method, r.RequestURI, r.Header["Cookie"], r.Header["Authorization"])
}

func TestBrowserLogsInOnceForAllAddresses(t *testing.T) {
	w := newWorld(t)
	for _, id := range []engine.ID{workerA, workerB} {
		for _, k := range []*kind{app, readOnly} {
			w.app(id, k.port, told)
		}
	}
	c := w.client(w.outside)
	r, trail := w.browse(c, appHost+"/a%20b//c?x=1&y=%26")
	r.expect(t, 200, "Log in", `type="password"`)
	if len(trail) != 2 || !strings.HasPrefix(trail[1], "localhost:8480/login?to=http%3A%2F%2F"+string(workerA)) {
		t.Errorf("the way to the login: %q", trail)
	}
	to, _ := url.Parse("http://" + trail[1])
	form := url.Values{"token": {ownerToken}, "to": {to.Query().Get("to")}}.Encode()
	r = w.ask(c, "POST", "localhost:8480/login", form, "Content-Type: application/x-www-form-urlencoded", "Origin: http://localhost:8480", html)
	r.expect(t, http.StatusSeeOther)
	r, trail = w.browse(c, strings.TrimPrefix(r.Header.Get("Location"), "http://"))
	r.expect(t, 200, "GET /a%20b//c?x=1&y=%26 cookie=[] auth=[]")
	if len(trail) != 2 || trail[1] != appHost+"/a%20b//c?x=1&y=%26" {
		t.Errorf("the way back: %q", trail)
	}
	w.browse2(c, 200, appHost+"/again", 1)
	// Other addresses cost a detour, and no question.
	for _, u := range []string{"read-only-" + appHost + "/", string(workerB) + "." + domain + "/", domain + appPath + "/", domain + "/app/" + string(workerB) + "/x"} {
		w.browse2(c, 200, u, 4)
		w.browse2(c, 200, u, 1)
	}
	w.browse2(c, 200, domain+"/login", 1)
	// What else the person opens on this host sees the cookie of /login nowhere else.
	base, _ := url.Parse("http://localhost:8480/")
	if got := c.Jar.Cookies(base); len(got) != 0 {
		t.Errorf("cookies at the server's root: %v", got)
	}
}

// browse2 wants a status after so many requests.
func (w *world) browse2(c *http.Client, status int, url string, requests int) reply {
	w.t.Helper()
	r, trail := w.browse(c, url)
	r.expect(w.t, status)
	if len(trail) != requests {
		w.t.Errorf("%d requests: %q", len(trail), trail)
	}
	return r
}

func TestLinkWithTokenLogsIn(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, told)
	// A link of the login's, with where to go.
	c := w.client(w.outside)
	w.browse2(c, 200, "localhost:8480/login?token="+ownerToken+"&to="+url.QueryEscape("http://"+appHost+"/x"), 3).expect(t, 200, "GET /x cookie=[]")
	// The token on the address itself, of the owner or of its session.
	for _, token := range []string{ownerToken, "A"} {
		for _, base := range []string{appHost, domain + appPath} {
			c := w.client(w.outside)
			w.browse2(c, 200, base+"/x?a=1&muster%5Ftoken="+token+"&b=2", 2).expect(t, 200, "/x?a=1&b=2 cookie=[]")
			w.browse2(c, 200, base+"/y", 1)
		}
	}
	// A script takes no detour.
	w.ask(w.client(w.outside), "GET", appHost+"/x?muster_token=A&muster_code=zzz&a", "").expect(t, 200, "GET /x?a cookie=[]")
	w.ask(w.client(w.outside), "POST", appHost+"/?muster_token=A", "").expect(t, 200, "POST / cookie=[]")
	// A wrong token, and another session's.
	w.browse2(w.client(w.outside), 401, appHost+"/?muster_token=wrong", 1)
	w.browse2(w.client(w.outside), 401, "localhost/login?token=wrong", 1).expect(t, 401, "not known", "password")
	w.browse2(w.client(w.outside), 404, appHost+"/?muster_token=B", 2)
}

func TestScriptsShowTheirToken(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, told)
	c := w.client(w.outside)
	for _, auth := range []string{"Bearer " + ownerToken, "bearer A", "Basic T1dORVI6", "Basic QTo="} { // OWNER:, A:
		w.ask(c, "POST", appHost+"/", "", "Authorization: "+auth, "Cookie: a=1; muster-web-8480=x;b=2").expect(t, 200, "cookie=[a=1;b=2] auth=[]")
	}
	r := w.ask(c, "GET", appHost+"/", "")
	r.expect(t, 401, "needs a login", "Authorization: Bearer")
	if r.Header.Get("WWW-Authenticate") != `Bearer realm="muster"` {
		t.Errorf("headers %v", r.Header)
	}
	for _, auth := range []string{"Bearer wrong", "Bearer ", "Basic Og==", "Basic !", "token " + ownerToken, ownerToken} {
		w.ask(c, "GET", appHost+"/", "", "Authorization: "+auth).expect(t, 401)
	}
	w.ask(c, "GET", appHost+"/", "", "Authorization: Bearer B").expect(t, 404, "no engine")
	// The app's own passes, beside the cookie.
	w.browse(c, appHost+"/?muster_token=A")
	w.ask(c, "GET", appHost+"/", "", "Authorization: Bearer the-app's").expect(t, 200, "auth=[Bearer the-app's]")
	w.ask(c, "GET", appHost+"/", "", "Authorization: Bearer the-app's", bearer_).expect(t, 200, "auth=[Bearer the-app's]")
}

func TestPublicAddressesNeedNoLogin(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, public.port, told)
	c := w.client(w.outside)
	for _, base := range []string{"public-" + appHost, domain + "/public/" + string(workerA)} {
		w.ask(c, "POST", base+"/x?muster_token="+ownerToken, "", "Origin: http://elsewhere.example", bearer_, "Cookie: muster-web-8480=x").
			expect(t, 200, "POST /x cookie=[] auth=[]")
	}
	w.ask(c, "GET", "public-zzzzzzzzzzzzzzzz.localhost/", "").expect(t, 404)
}

func TestInsideASessionItsEnginesAndNoOthers(t *testing.T) {
	w := newWorld(t)
	for _, id := range []engine.ID{workerA, workerB} {
		for _, k := range []*kind{app, readOnly, public} {
			w.app(id, k.port, told)
		}
	}
	a, b := w.client(w.inside[sessionA]), w.client(w.inside[sessionB])
	for _, k := range []string{"", "read-only-", "public-"} {
		w.ask(a, "GET", k+appHost+"/", "", html).expect(t, 200)
		// Whatever is shown besides.
		w.ask(b, "GET", k+appHost+"/", "", bearer_).expect(t, 404)
		w.ask(b, "GET", k+appHost+"/?muster_token=OWNER", "", html).expect(t, 404)
	}
	w.ask(a, "POST", domain+appPath+"/", "", "Authorization: Bearer A").expect(t, 200, "auth=[]")
	w.ask(b, "GET", domain+appPath+"/", "").expect(t, 404)
	w.ask(b, "GET", domain+"/app/"+string(workerB)+"/", "").expect(t, 200)
	w.ask(a, "GET", domain+"/login?token=OWNER", "").expect(t, 200, nextAnswers)
	// A cookie of outside does not lead across either.
	c := w.client(w.outside)
	w.browse(c, appHost+"/?muster_token=OWNER")
	u, _ := url.Parse("http://" + appHost + "/")
	w.ask(b, "GET", appHost+"/", "", "Cookie: "+c.Jar.Cookies(u)[0].String()).expect(t, 404)
	if _, _, res := w.websocket(w.inside[sessionB], handshake(appHost, "/", bearer_)); res.StatusCode != 404 {
		t.Errorf("websocket across sessions: %s", res.Status)
	}
}

// loggedIn is a browser with the cookies of the login and of worker A's app, and that cookie as a header.
func (w *world) loggedIn() (*http.Client, string) {
	w.t.Helper()
	c := w.client(w.outside)
	w.browse(c, "localhost:8480/login?token=OWNER&to="+url.QueryEscape("http://"+appHost+"/"))
	u, _ := url.Parse("http://" + appHost + "/")
	return c, "Cookie: " + c.Jar.Cookies(u)[0].String()
}

func TestCookieIsSafe(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, told)
	r := w.ask(w.client(w.outside), "GET", appHost+"/?muster_token=OWNER", "", html)
	c := r.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Domain != "" || c.Path != "/" || strings.Contains(c.Value, ownerToken) {
		t.Errorf("cookie %v", c)
	}
	r = w.ask(w.client(w.outside), "GET", domain+appPath+"/?muster_token=OWNER", "", html)
	if p := r.Cookies()[0].Path; p != appPath+"/" {
		t.Errorf("by path: %q", p)
	}
	for _, r := range []reply{r, w.ask(w.client(w.outside), "GET", "localhost:8480/login?token=OWNER", "", html)} {
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Referrer-Policy") == "" {
			t.Errorf("headers %v", r.Header)
		}
	}
}

// A cookie is worth its own address only, and no letter of it can be changed.
func TestCookiesOfOtherAddressesAndForgedOnes(t *testing.T) {
	w := newWorld(t)
	for _, k := range []*kind{app, readOnly} {
		w.app(workerA, k.port, told)
		w.app(workerB, k.port, told)
	}
	_, cookie := w.loggedIn()
	plain := w.client(w.outside)
	w.ask(plain, "GET", appHost+"/", "", cookie).expect(t, 200)
	w.ask(plain, "GET", appHost+"/", "", "Cookie: muster-web-8480=tossed; "+strings.TrimPrefix(cookie, "Cookie: ")).expect(t, 200)
	w.ask(plain, "GET", "read-only-"+appHost+"/", "", cookie).expect(t, 401)
	w.ask(plain, "GET", string(workerB)+"."+domain+"/", "", cookie).expect(t, 401)
	w.ask(plain, "GET", "localhost:8480/login", "", cookie).expect(t, 401)
	for i := len("Cookie: muster-web-8480="); i < len(cookie); i++ {
		for _, flip := range []string{"a", "0", ""} {
			if forged := cookie[:i] + flip + cookie[i+1:]; forged != cookie {
				if r := w.ask(plain, "GET", appHost+"/", "", forged); r.StatusCode != 401 {
					t.Fatalf("%s passes", forged)
				}
			}
		}
	}
	now := time.Now()
	w.gateway.tickets.now = func() time.Time { return now.Add(ticketLife - time.Minute) }
	w.ask(plain, "GET", appHost+"/", "", cookie).expect(t, 200)
	w.gateway.tickets.now = func() time.Time { return now.Add(ticketLife + time.Minute) }
	w.ask(plain, "GET", appHost+"/", "", cookie).expect(t, 401)
}

func TestCodesAreGoodOnceSoonAndForOneAddress(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, told)
	w.app(workerB, app.port, told)
	c, _ := w.loggedIn()
	issue := func() string {
		r := w.ask(c, "GET", "localhost:8480/login?to="+url.QueryEscape("http://"+appHost+"/"), "", html)
		return strings.TrimPrefix(r.Header.Get("Location"), "http://"+appHost+"/?")
	}
	stranger := func(host, code string) bool {
		return len(w.ask(w.client(w.outside), "GET", host+"/?"+code, "", html).Cookies()) == 1
	}
	code := issue()
	if !strings.HasPrefix(code, "muster_code=") || !stranger(appHost, code) {
		t.Fatalf("code %q does nothing", code)
	}
	if stranger(appHost, code) {
		t.Error("a code is good twice")
	}
	code = issue()
	if stranger(string(workerB)+"."+domain, code) || stranger("read-only-"+appHost, code) || stranger(appHost, code) {
		t.Error("a code is good elsewhere, or after it was tried there")
	}
	code = issue()
	now := time.Now()
	w.gateway.tickets.now = func() time.Time { return now.Add(codeLife + time.Second) }
	if stranger(appHost, code) {
		t.Error("a code is good for ever")
	}
	w.gateway.tickets.now = time.Now
	w.browse2(c, 200, appHost+"/x?"+code, 2) // "back" in a browser that has the cookie
	if n := len(w.gateway.tickets.codes); n > 1 {
		t.Errorf("%d old codes are kept", n)
	}
}

func TestLoginLeadsNowhereElse(t *testing.T) {
	w := newWorld(t)
	c, _ := w.loggedIn()
	id := string(workerA)
	for _, to := range []string{
		"http://evil.example/", "//evil.example/", "/", "javascript:alert(1)", "https://" + appHost + "/", "http://" + id + ".localhost:6666/",
		"http://" + id + ".localhost/", "http://" + id + ".127.0.0.1:8480/", "http://x@" + appHost + "/", "http://localhost:8480/", "http://localhost:8480/app/x/",
		"http://127.0.0.1:8480" + appPath + "/", "http://public-" + appHost + "/", appPath + "/", "http:" + appHost, "http://" + appHost + "\\@evil.example/",
		"http://evil.example\\@" + appHost + "/", "http://" + id + ".evil.example:8480/", "http://%zz",
	} {
		r := w.ask(c, "GET", "localhost:8480/login?to="+url.QueryEscape(to), "", html)
		if r.StatusCode != http.StatusBadRequest || r.Header.Get("Location") != "" {
			t.Errorf("%q: %s, %q", to, r.Status, r.Header.Get("Location"))
		}
	}
	w.ask(c, "GET", "localhost:8480/login?to=%22%3E%3Cscript%3E", "", html).expect(t, 400, "&#34;&gt;&lt;script&gt;")
	w.ask(w.client(w.outside), "DELETE", "localhost:8480/login", "").expect(t, 405)
	// Under the name that it was asked under, also a number.
	c = w.client(w.outside)
	w.browse2(c, 503, "127.0.0.1:8480/login?token=OWNER&to="+url.QueryEscape("http://127.0.0.1:8480"+appPath+"/"), 3)
}

// What a page of another origin causes in a browser that is logged in.
func TestForeignPagesDoNotRideOnTheLogin(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, told)
	_, cookie := w.loggedIn()
	own, other := "Origin: http://"+appHost, "Origin: http://"+string(workerB)+"."+domain
	basic := "Authorization: Basic T1dORVI6"
	plain := w.client(w.outside)
	for _, c := range []struct {
		method string
		status int
		more   []string
	}{
		{"GET", 200, nil},
		{"GET", 200, []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}},
		{"POST", 200, []string{own}},
		{"POST", 200, []string{own, "Sec-Fetch-Site: same-origin"}},
		{"POST", 200, []string{"Origin: null", "Sec-Fetch-Site: same-origin"}},
		{"GET", 200, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}}, // a link
		{"GET", 403, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}},
		{"GET", 403, []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}},
		{"GET", 403, []string{other}},
		{"POST", 403, []string{other}},
		{"POST", 403, []string{"Origin: null"}},
		{"POST", 403, []string{"Origin: http://localhost:8480"}},
		{"POST", 403, []string{"Origin: https://" + appHost}},
		{"POST", 403, []string{"Origin: http://" + string(workerA) + ".localhost:6666"}},
		{"POST", 403, []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}},
		{"DELETE", 403, []string{other, "Sec-Fetch-Site: cross-site"}},
	} {
		w.ask(plain, c.method, appHost+"/", "", append(c.more, cookie)...).expect(t, c.status)
		w.ask(plain, c.method, appHost+"/", "", append(c.more, basic)...).expect(t, c.status)
		w.ask(plain, c.method, appHost+"/", "", append(c.more, bearer_)...).expect(t, 200) // nobody adds this by himself
	}
	w.ask(plain, "POST", "localhost:8480/login", "token=OWNER", "Content-Type: application/x-www-form-urlencoded", other).expect(t, 403)
}

func TestWebsocketsAreForOwnPages(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, echo(make(chan error, 20)))
	_, cookie := w.loggedIn()
	basic := "Authorization: Basic T1dORVI6"
	for _, c := range []struct {
		status  int
		headers []string
	}{
		{101, []string{cookie, "Origin: http://" + appHost}},
		{403, []string{cookie, "Origin: http://" + string(workerB) + "." + domain}},
		{403, []string{cookie, "Origin: http://localhost:8480"}},
		{403, []string{cookie, "Origin: null"}},
		{403, []string{cookie}},
		{403, []string{basic, "Origin: http://evil.example"}},
		{403, []string{cookie, "Origin: http://" + appHost + ".evil.example", "Sec-Fetch-Site: same-origin"}},
		{101, []string{basic}},
		{101, []string{bearer_, "Origin: http://evil.example"}},
		{401, []string{"Origin: http://" + appHost}},
		{401, []string{html}},
	} {
		conn, _, res := w.websocket(w.outside, handshake(appHost, "/", c.headers...))
		if res.StatusCode != c.status {
			t.Errorf("%q: %s, want %d", c.headers, res.Status, c.status)
		}
		conn.Close()
	}
}
