package test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Web addresses of engines, with real apps and clients; what the gateway does with every odd request is tested in
// internal/web.

// copyWeb puts the app and the client into the world's project.
func (w *world) copyWeb() {
	w.t.Helper()
	for _, name := range []string{"webapp.py", "webvisit.py"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			w.t.Fatal(err)
		}
		w.write(name, string(b))
	}
}

// webInside launches an app, and clients of it and of the session's own app: in the session, in a Python worker and in one
// of R, all with the same string.
const webInside = `
import cdsw, os, webapp, webvisit
webapp.start()
serving = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="app", code="import time, webapp; webapp.start(); time.sleep(1000)")
url = serving[0]["app_url"]
own = "http://%s.%s/" % (os.environ["CDSW_ENGINE_ID"], os.environ["CDSW_DOMAIN"])
webvisit.visit(url)
webvisit.visit(own)
print("the session visited")
py = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="py", env={"TO": url + " " + own}, code='''
import os, webvisit
for url in os.environ["TO"].split():
    webvisit.visit(url)
print("the worker visited")
''')
r = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="r", kernel="r", env={"APP": url, "OWN": own}, code='''
for (to in c(Sys.getenv("APP"), Sys.getenv("OWN"))) {
  told <- readLines(paste0(to, "status"))
  read_only <- readLines(sub("http://", "http://read-only-", to))
  public <- readLines(sub("http://", "http://public-", to))
  id <- sub("[.].*", "", sub("http://", "", to))
  stopifnot(grepl(id, told), grepl("GET /status", told), grepl("8100", read_only), grepl("8080", public))
}
cat("R visited\\n")
''')
done = cdsw.await_workers(py + r, timeout_seconds=60)
assert not done["failures"], done["failures"]
print("all visited", os.environ["CDSW_DOMAIN"])
`

func TestWebAddressesFromInside(t *testing.T) {
	requireR(t)
	for _, kind := range []string{"run", "up"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.copyWeb()
			before := w.count()
			var up *background
			if kind == "up" {
				up = w.server("--web", "127.0.0.1:0")
			}
			r := w.script(webInside).ok(t)
			r.has(t, "the session visited", "[py] the worker visited", "[r] R visited", "all visited localhost:")
			if up != nil {
				up.stop()
				w.withoutConsoles()
			}
			w.nothingLeft(before)
		})
	}
}

// stop ends the program as a person does, and waits.
func (b *background) stop() {
	b.t.Helper()
	b.cmd.Process.Signal(os.Interrupt)
	if code := b.wait(); code != 0 && code != 130 {
		b.t.Errorf("exit code %d:\n%s", code, tail(b.output()))
	}
}

// An engine of another session finds nothing at the address, whatever it knows and shows.
func TestWebAddressesOfOtherSessionsAreNotThere(t *testing.T) {
	w := newWorld(t)
	w.copyWeb()
	w.server("--web", "127.0.0.1:0")
	w.write("app.py", `
import os, time, webapp, webvisit
webapp.start()
url = "http://%s.%s/" % (os.environ["CDSW_ENGINE_ID"], os.environ["CDSW_DOMAIN"])
webvisit.visit(url)
print("serving", url, os.environ["CDSW_API_KEY"], flush=True)
time.sleep(1000)
`)
	m := w.start("run", "app.py").match(`serving (\S+) (\S+)`)
	token, err := os.ReadFile(filepath.Join(w.root, "run", "token"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("session.py", `
import os, sys, webvisit
url, tokens = sys.argv[1], ["", sys.argv[2], sys.argv[3], os.environ["CDSW_API_KEY"]]
seen = set()
for at in ("", "read-only-", "public-"):
    for token in tokens:
        seen.add(webvisit.fetch(url.replace("//", "//" + at), {"Authorization": "Bearer " + token} if token else {})[0])
        seen.add(webvisit.fetch(url.replace("//", "//" + at) + "?muster_token=" + token)[0])
print("seen", seen)
`)
	w.muster("run", "session.py", m[0], m[1], strings.TrimSpace(string(token))).ok(t).has(t, "seen {404}")
}

// An attached session's app_url leads to its own process's port on the host, from the host and from its workers, and not to
// what another process of the host serves there.
func TestWebAddressOfAnAttachedSession(t *testing.T) {
	w := newWorld(t)
	w.copyWeb()
	b := w.outside("python3", "notebook.py", `
me = attach("notebook")
import cdsw, webapp
url = "http://%s.%s/" % (os.environ["CDSW_ENGINE_ID"], os.environ["CDSW_DOMAIN"])
assert me["engine"]["app_url"] == url, me
print("address", url, os.environ["CDSW_API_KEY"])
while not os.path.exists("go"):
    time.sleep(0.02)
webapp.ports = {"CDSW_APP_PORT": "127.0.0.1"}
webapp.start()
worker = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, env={"TO": url}, code="import os, webvisit; assert webvisit.told(os.environ['TO'] + 'x')['port'] == 8090")
assert cdsw.await_workers(worker)["workers"], "not visited"
print("visited")
time.sleep(1000)
`)
	m := b.match(`address (\S+) (\S+)`)
	auth := "Authorization: Bearer " + m[1]
	browser := newBrowser(t)
	browser.ask("GET", m[0], "", auth).has(t, 503, "Nothing listens yet", `session "notebook"`)
	l, err := net.Listen("tcp", "127.0.0.1:8090")
	if err != nil {
		t.Fatal(err)
	}
	browser.ask("GET", m[0], "", auth).has(t, 503, "cannot be reached")
	l.Close()
	w.write("go", "")
	b.await("visited")
	if a := browser.ask("GET", m[0], "", auth).told(t); a.Port != 8090 || a.Auth != nil {
		t.Errorf("told %+v", a)
	}
}
