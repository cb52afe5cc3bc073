package test

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// listeners counts the TCP sockets on which a process listens in its own network.
func listeners(t *testing.T, pid int) (n int) {
	t.Helper()
	inodes := map[string]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines(string(b)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && inodes[to] {
			n++
		}
	}
	return n
}

// Without web addresses nothing listens, inside or outside, and all else is as before: URLs name the session's network.
func TestNoWebAddresses(t *testing.T) {
	w := newWorld(t)
	up := w.server("--web", "none")
	w.write("session.py", `
import cdsw, os, socket, time, urllib.request
domain = os.environ["CDSW_DOMAIN"]
try:
    socket.create_connection(("127.0.0.1", 20202), 20)
except ConnectionRefusedError:
    print("nobody on the loopback")
status = urllib.request.urlopen("http://" + domain + "/muster/v1/version").status
print("domain", domain, os.environ["CDSW_ENGINE_ID"], status, flush=True)
time.sleep(1000)
`)
	b := w.start("run", "session.py")
	m := b.match(`domain (\S+):\d+ (\S+) 200`)
	if _, err := netip.ParseAddr(m[0]); err != nil || !strings.Contains(b.output(), "nobody on the loopback") {
		t.Errorf("%v: %s", err, b.output())
	}
	if n := listeners(t, up.cmd.Process.Pid); n != 0 {
		t.Errorf("the server listens on %d ports of the host", n)
	}
	if r := w.muster("open", m[1]); r.code != 1 || !strings.Contains(r.err, "this server has no web addresses of engines\n  try: start it without --web none") {
		t.Errorf("open: %d %s", r.code, r.err)
	}
	other := newWorld(t)
	if n := listeners(t, other.server("--web", "127.0.0.1:0").cmd.Process.Pid); n != 1 {
		t.Errorf("another server listens on %d ports: the count sees nothing", n)
	}
}

// An address that somebody asks for and cannot have is an error, and nothing is left of the server.
func TestWebAddressThatIsTaken(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().String()
	r := w.muster("up", "--web", at)
	if want := "muster: browsers cannot be served at " + at; r.code != 1 || !strings.HasPrefix(r.err, want) ||
		!strings.Contains(r.err, "address already in use\n  try: give another address with --web, or none\n") {
		t.Errorf("%d %s", r.code, r.err)
	}
	w.withoutConsoles()
	w.nothingLeft(before)
}

// Where the usual port is taken a free one does, which is then in every URL and in every engine.
func TestUsualWebPortIsTaken(t *testing.T) {
	w := newWorld(t)
	w.copyWeb()
	if l, err := net.Listen("tcp", "127.0.0.1:20202"); err == nil {
		defer l.Close()
	} // else somebody else has it
	w.write("session.py", `
import cdsw, os, sys, webapp, webvisit
webapp.start()
url = "http://%s.%s/" % (os.environ["CDSW_ENGINE_ID"], os.environ["CDSW_DOMAIN"])
worker = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, env={"TO": url}, code="import os, webvisit; webvisit.visit(os.environ['TO'])")
assert cdsw.await_workers(worker)["workers"], "not visited"
print("domain", os.environ["CDSW_DOMAIN"], os.environ["CDSW_API_KEY"], url, worker[0]["app_url"], flush=True)
sys.stdin.read()
`)
	cmd := w.cmd("run", "session.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	b := w.begin(cmd)
	m := b.match(`domain (\S+) (\S+) (\S+) (\S+)`)
	if port := strings.TrimPrefix(m[0], "localhost:"); port == m[0] || port == "20202" || !strings.HasSuffix(m[3], "."+m[0]+"/") {
		t.Errorf("domain %s, app_url %s", m[0], m[3])
	}
	newBrowser(t).ask("GET", m[2], "", "Authorization: Bearer "+m[1]).told(t)
	in.Close()
	if code := b.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, b.output())
	}
}

// person is somebody without rights, for whom nobody else's processes are.
const person = 23456

// as makes a program another user's.
func as(cmd *exec.Cmd, uid uint32) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
	return cmd
}

// asks sends a request as a browser of a user, and returns the answer's head.
func asks(t *testing.T, uid uint32, port, path, host string) string {
	t.Helper()
	cmd := as(exec.Command("bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/$0 && cat >&3 && cat <&3`, port), uid)
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nAccept: text/html\r\nSec-Fetch-Site: none\r\n" +
		"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nConnection: close\r\n\r\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// The person who runs a server, not being root, is known to it by the browser's connection, and nobody else is. Only the plain
// rung runs without root.
func TestPersonNeedsNoLogin(t *testing.T) {
	w := newWorld(t)
	w.copyWeb()
	program := filepath.Join(w.root, "muster")
	b, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Dir(w.root), 0o755)
	if err := filepath.WalkDir(w.root, func(path string, _ os.DirEntry, err error) error {
		return os.Chown(path, person, person)
	}); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "MUSTER_CACHE_DIR="+filepath.Join(w.root, "cache"), "HOME="+w.root, "PATH=/usr/local/bin:/usr/bin:/bin")
	w.write("session.py", `
import os, sys, webapp
webapp.ports = {"CDSW_APP_PORT": "127.0.0.1"}  # on this rung ports are the machine's
webapp.start()
print("domain", os.environ["CDSW_DOMAIN"], os.environ["CDSW_ENGINE_ID"], flush=True)
sys.stdin.read()
`)
	os.Chown(filepath.Join(w.project, "session.py"), person, person)
	cmd := as(w.cmd("run", "session.py"), person)
	cmd.Path = program
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	session := w.begin(cmd)
	m := session.match(`domain (\S+) (\S+)`)
	host := m[1] + "." + m[0]
	port := m[0][strings.LastIndexByte(m[0], ':')+1:]
	login := "/login?to=" + url.QueryEscape("http://"+host+"/page")
	for uid, known := range map[uint32]bool{person: true, person + 1: false, 0: false} {
		answer := asks(t, uid, port, login, m[0])
		_, where, found := strings.Cut(answer, "\r\nLocation: ")
		where, _, _ = strings.Cut(where, "\r\n")
		if found != known || known != strings.HasPrefix(where, "http://"+host+"/page?muster_code=") || known == strings.Contains(answer, `name="token"`) {
			t.Errorf("user %d: %s", uid, answer)
		}
		if api := asks(t, uid, port, "/muster/v1/sessions", m[0]); !strings.HasPrefix(api, "HTTP/1.1 401 ") {
			t.Errorf("user %d asks the API: %s", uid, api)
		}
		if app := asks(t, uid, port, "/", host); !strings.HasPrefix(app, "HTTP/1.1 303 ") { // to the login, also the person
			t.Errorf("user %d without a cookie: %s", uid, app)
		}
		if known {
			if a := newBrowser(t).open(where).told(t); a.Asked != "GET /page" || a.Cookie != nil {
				t.Errorf("told %+v", a)
			}
		}
	}
	in.Close()
	if code := session.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, session.output())
	}
}
