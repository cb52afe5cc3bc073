package test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Web addresses from the host, as browsers and scripts of people ask for them.

// crowd is a server with a session whose workers are in all states.
type crowd struct {
	*world
	owner, session string // tokens
	domain         string
	id             map[string]string // by the worker's name; "session" is the session's own
}

const webCrowd = `
import cdsw, json, os, time, webapp
def launch(name, code, memory=0.1):
    return cdsw.launch_workers(n=1, cpu=0.1, memory=memory, name=name, code=code)[0]["id"]
ids = {"session": os.environ["CDSW_ENGINE_ID"]}
ids["app"] = launch("app", "import time, webapp; webapp.start(); print('app is up'); time.sleep(1000)")
ids["late"] = launch("late", "import os, time, webapp\nwhile not os.path.exists('go'): time.sleep(0.02)\nwebapp.start(); time.sleep(1000)")
ids["silent"] = launch("silent", "import time; time.sleep(1000)")
ids["ended"] = launch("ended", "raise SystemExit(3)")
cdsw.await_workers(ids["ended"])
cdsw.await_workers([ids["silent"], ids["late"]], wait_for_completion=False)
ids["waits"] = launch("waits", "", memory=2.9)
print("crowd", os.environ["CDSW_DOMAIN"], os.environ["CDSW_API_KEY"], json.dumps(ids), flush=True)
time.sleep(1000)
`

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	w := newWorld(t)
	w.copyWeb()
	w.server("--web", "127.0.0.1:0", "--memory-capacity", "3")
	token, err := os.ReadFile(filepath.Join(w.root, "run", "token"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("crowd.py", webCrowd)
	b := w.start("run", "crowd.py")
	m := b.match(`crowd (\S+) (\S+) (\{.*\})`)
	b.await("app is up")
	c := &crowd{world: w, owner: strings.TrimSpace(string(token)), domain: m[0], session: m[1]}
	if err := json.Unmarshal([]byte(m[2]), &c.id); err != nil {
		t.Fatal(err)
	}
	return c
}

// at is an address of an engine by sub-domain; label is "", "read-only-" or "public-".
func (c *crowd) at(label, name string) string {
	return "http://" + label + c.id[name] + "." + c.domain + "/"
}

func TestWebAddressesFromTheHost(t *testing.T) {
	c := newCrowd(t)
	t.Run("scripts", c.testScripts)
	t.Run("browser", c.testBrowser)
	t.Run("links of muster open", c.testLinks)
	t.Run("websocket", c.testWebsocket)
	t.Run("pages", c.testPages)
}

// Every way to show a token leads to each address, by name and by path, and the app sees nothing of it.
func (c *crowd) testScripts(t *testing.T) {
	basic := func(token string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(token+":"))
	}
	for _, auth := range []string{"Authorization: Bearer " + c.owner, "Authorization: Bearer " + c.session, basic(c.owner), basic(c.session)} {
		for label, port := range map[string]int{"": 8090, "read-only-": 8100, "public-": 8080} {
			b := newBrowser(t)
			at := c.at(label, "app")
			a := b.ask("POST", at+"x?y=1", "a body", auth, "Cookie: own=1").told(t)
			if a.Engine != c.id["app"] || a.Port != port || a.Asked != "POST /x?y=1" || a.Body != "a body" || "http://"+a.Host+"/" != at ||
				a.Auth != nil || a.Cookie == nil || *a.Cookie != "own=1" || a.Prefix != nil {
				t.Errorf("%s told %+v", at, a)
			}
			first := strings.TrimSuffix(label, "-")
			if first == "" {
				first = "app"
			}
			prefix := "/" + first + "/" + c.id["app"]
			a = b.ask("GET", "http://"+c.domain+prefix+"/x", "", auth).told(t)
			if a.Engine != c.id["app"] || a.Port != port || a.Asked != "GET /x" || a.Prefix == nil || *a.Prefix != prefix || a.Auth != nil {
				t.Errorf("%s told %+v", prefix, a)
			}
		}
	}
	b := newBrowser(t)
	for _, label := range []string{"", "read-only-"} {
		b.ask("GET", c.at(label, "app"), "").has(t, 401, "needs a login", "Authorization: Bearer TOKEN")
		b.ask("GET", c.at(label, "app"), "", "Authorization: Bearer wrong").has(t, 401)
	}
	b.ask("POST", c.at("public-", "app"), "", "Origin: http://elsewhere.example").has(t, 200)
	b.ask("GET", "http://127.0.0.1:"+c.domain[strings.LastIndexByte(c.domain, ':')+1:]+"/muster/v1/sessions", "").has(t, 401) // the API
}

// A browser logs in once; what foreign pages cause is refused.
func (c *crowd) testBrowser(t *testing.T) {
	b := newBrowser(t)
	p := b.open(c.at("", "app")+"page?q=1").has(t, 200, "Log in to Muster", `name="token"`)
	if !strings.HasPrefix(p.at, "http://"+c.domain+"/login?to=") {
		t.Fatalf("led to %s", p.at)
	}
	to := p.Request.URL.Query().Get("to")
	form := url.Values{"token": {c.owner}, "to": {to}}.Encode()
	typed := "Content-Type: application/x-www-form-urlencoded"
	b.ask("POST", "http://"+c.domain+"/login", strings.Replace(form, c.owner, "wrong", 1), typed).has(t, 401, "not known")
	p = b.ask("POST", "http://"+c.domain+"/login", form, typed, "Origin: http://"+c.domain, "Accept: text/html")
	if a := p.told(t); a.Asked != "GET /page?q=1" || a.Cookie != nil || a.Auth != nil || p.at != c.at("", "app")+"page?q=1" {
		t.Errorf("%s told %+v", p.at, a)
	}
	port := c.domain[strings.LastIndexByte(c.domain, ':')+1:]
	for _, uid := range []uint32{0, person} { // root's server knows nobody by the connection
		if login := asks(t, uid, port, "/login?to="+url.QueryEscape(to), c.domain); !strings.Contains(login, `name="token"`) {
			t.Errorf("user %d: %s", uid, login)
		}
	}
	own := "Origin: http://" + c.id["app"] + "." + c.domain
	if a := b.ask("POST", c.at("", "app"), "typed", own).told(t); a.Body != "typed" || a.Cookie != nil {
		t.Errorf("told %+v", a)
	}
	b.ask("POST", c.at("", "app"), "", "Origin: http://"+c.id["silent"]+"."+c.domain).has(t, 403)
	b.ask("GET", c.at("", "app"), "", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image").has(t, 403)
	b.open(c.at("read-only-", "app")).told(t) // no question: one login for all
	b.open("http://" + c.domain + "/app/" + c.id["app"]).told(t)
	b.ask("GET", "http://"+c.domain+"/muster/v1/sessions", "").has(t, 401) // a login is none for the API
	b.ask("GET", "http://"+c.domain+"/muster/v1/sessions", "", "Authorization: Bearer "+c.owner).has(t, 200, c.id["session"])
}

// What muster open prints lets a browser in that knows nothing; so does what it prints in the session's engine.
func (c *crowd) testLinks(t *testing.T) {
	for label, flag := range map[string]string{"": "--print", "read-only-": "--read-only", "public-": "--public"} {
		link := strings.TrimSpace(c.muster("open", flag, c.id["app"]).ok(t).out)
		p := newBrowser(t).open(link)
		if a := p.told(t); a.Engine != c.id["app"] || p.at != c.at(label, "app") {
			t.Errorf("%s leads to %s: %+v", link, p.at, a)
		}
		if strings.Contains(link, c.owner) != (label != "public-") {
			t.Errorf("open %s prints %s", flag, link)
		}
	}
	c.muster("open", c.id["ended"]).has(t, c.id["ended"]+" has ended (ended with exit code 3)", "muster logs")
}

// What it prints in an engine lets a browser into its session, also where no server is known to anybody.
func TestOpenInASession(t *testing.T) {
	w := newWorld(t)
	w.copyWeb()
	w.write("session.py", `
import os, subprocess, sys, webapp
webapp.start()
print("link", subprocess.check_output([sys.argv[1], "open", os.environ["CDSW_ENGINE_ID"]]).decode(), flush=True)
sys.stdin.read()
`)
	cmd := w.cmd("run", "session.py", binary(t))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	b := w.begin(cmd)
	link := b.match(`link (http\S+)`)[0]
	if a := newBrowser(t).open(link).told(t); a.Port != 8090 || a.Cookie != nil {
		t.Errorf("%s told %+v", link, a)
	}
	in.Close()
	if code := b.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, b.output())
	}
}

// A websocket through the gateway: frames in both directions, with a token; with the login of another page there is none.
func (c *crowd) testWebsocket(t *testing.T) {
	for _, host := range []string{c.id["app"] + "." + c.domain, "read-only-" + c.id["app"] + "." + c.domain} {
		status, _ := upgrade(t, c.domain, host, "")
		if status != 401 {
			t.Errorf("without a token: %d", status)
		}
		status, speak := upgrade(t, c.domain, host, "Authorization: Bearer "+c.owner+"\r\n")
		if status != 101 {
			t.Fatalf("status %d", status)
		}
		if heard := speak(""); heard != "at your service" {
			t.Errorf("greeted with %q", heard)
		}
		for _, text := range []string{"first", "second"} {
			if heard := speak(text); heard != strings.ToUpper(text) {
				t.Errorf("%q came back as %q", text, heard)
			}
		}
	}
}

// What people see where no app answers.
func (c *crowd) testPages(t *testing.T) {
	b := newBrowser(t)
	b.open("http://"+c.domain+"/login?token="+c.owner).has(t, 200, "Logged in")
	p := b.open(c.at("", "silent")).has(t, 503, "Nothing listens yet", "worker &#34;silent&#34;", "port 8090", "$CDSW_APP_PORT", `http-equiv="refresh"`)
	if p.Header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", p.Header)
	}
	b.open(c.at("public-", "silent")).has(t, 503, "Nothing listens yet", "port 8080", "$CDSW_PUBLIC_PORT")
	b.open(c.at("", "session")).has(t, 503, "Nothing listens yet", "session &#34;crowd.py&#34;")
	b.open(c.at("", "waits")).has(t, 503, "Not started yet", "scheduling", "waits for 2.9 GB")
	b.open(c.at("", "ended")).has(t, 410, "The engine has ended", "worker &#34;ended&#34;", "failed, ended with exit code 3")
	b.open("http://abcdefgh12345678."+c.domain+"/").has(t, 404, "No such engine", "muster ps")
	b.open("http://nonsense."+c.domain+"/").has(t, 404, "No such engine")
	b.ask("GET", "http://"+c.domain+"/app/"+c.id["app"]+"/", "", "Host: elsewhere.example").has(t, 421, "elsewhere.example")
	r := b.ask("GET", c.at("", "silent"), "", "Authorization: Bearer "+c.owner)
	r.has(t, 503, "Nothing listens yet\n") // to programs in plain words
	if r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("headers %v", r.Header)
	}

	b.open(c.at("", "late")).has(t, 503, "Nothing listens yet")
	c.write("go", "")
	until(t, "the app is there", func() bool { return b.open(c.at("", "late")).StatusCode == 200 })
	c.muster("stop", c.id["late"]).ok(t)
	until(t, "the app's end is told", func() bool { return b.open(c.at("", "late")).StatusCode == 410 })
	b.open(c.at("", "late")).has(t, 410, "The engine has ended", "stopped")
	c.muster("stop", c.id["session"]).ok(t)
	b.open(c.at("", "app")).has(t, 410, "The engine has ended")
}
