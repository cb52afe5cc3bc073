package test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// machine is a machine with users of its own, alice and bob: a mount namespace in which the user database is another one, and
// /run/muster and everything else of the server is this test's.
type machine struct {
	*world
	holder *exec.Cmd
	bin    string
	python string // folder of our Python packages
	server *background
}

// uids of the users.
var uids = map[string]int{"root": 0, "alice": 20001, "bob": 20002}

func newMachine(t *testing.T, flags ...string) *machine {
	t.Helper()
	w := newWorld(t)
	for dir := w.root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m := &machine{world: w, bin: filepath.Join(w.root, "bin")}
	m.mkdir("bin", 0o755)
	if out, err := exec.Command("cp", binary(t), filepath.Join(m.bin, "muster")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	known, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	passwd := string(known)
	for _, name := range []string{"alice", "bob"} {
		home := m.mkdir(name, 0o700)
		if err := os.Chown(home, uids[name], uids[name]); err != nil {
			t.Fatal(err)
		}
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", name, uids[name], uids[name], home)
	}
	m.put("passwd", passwd)
	m.put("group", "root:x:0:\nalice:x:20001:\nbob:x:20002:\nteam:x:20010:alice,bob\n")
	m.mkdir("cache", 0o755)
	m.mkdir("state", 0o700)
	m.mkdir("run-of-host", 0o755)
	m.holder = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", `
mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group || exit 1
# A /run of its own, for nothing is to be made in that of the host: another run of this test would remove it.
mount --rbind /run "$0/run-of-host" && mount -t tmpfs -o mode=755 none /run && mkdir /run/muster || exit 1
for f in "$0"/run-of-host/*; do [ -e "/run/${f##*/}" ] || ln -s "$f" /run/; done
echo ready; exec sleep infinity`, w.root)
	out, err := m.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.holder.Stderr = os.Stderr
	if err := m.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.holder.Process.Kill()
		m.holder.Wait()
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skip("capability mounts: no mount namespace can be made here")
	}
	m.up(flags...)
	m.python = m.as("alice", "muster", "run", "-c", "import os; print(os.environ['PYTHONPATH'])").ok(t).out
	m.python = strings.TrimSpace(m.python)
	return m
}

func (m *machine) mkdir(name string, mode fs.FileMode) string {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(path, mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// put writes a file that everybody may read.
func (m *machine) put(name, content string) string {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// give writes a file of a user's own, which nobody else may read.
func (m *machine) give(user, name, content string) string {
	m.t.Helper()
	path := m.put(filepath.Join(user, name), content)
	if err := os.Chown(path, uids[user], uids[user]); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// up starts the server of all users, as a service would, and waits until it answers.
func (m *machine) up(flags ...string) {
	m.t.Helper()
	m.server = m.begin(m.cmdAs("root", append([]string{"muster", "up", "--shared", "--web", "127.0.0.1:0", "--state-dir", filepath.Join(m.root, "state")}, flags...)...))
	m.server.await("the server answers at")
}

// cmdAs prepares a program of a user's, in the user's home, as a login would: nothing says where the server is.
func (m *machine) cmdAs(user string, args ...string) *exec.Cmd {
	home := "/root"
	if user != "root" {
		home = filepath.Join(m.root, user)
	}
	id := strconv.Itoa(uids[user])
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.holder.Process.Pid), "-m", "-S", id, "-G", id, "--wdns=" + home}, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + home, "USER=" + user, "NO_COLOR=1", "PATH=" + m.bin + ":/usr/local/bin:/usr/bin:/bin", "PYTHONPATH=" + m.python,
		"MUSTER_CACHE_DIR=" + filepath.Join(m.root, "cache"), "LANG=C.UTF-8"}
	return cmd
}

func (m *machine) as(user string, args ...string) result {
	m.t.Helper()
	return m.finish(m.cmdAs(user, args...), 4*deadline)
}

// ask is a Python function for scripts of users: a request over the server's socket, with a token or without.
const askPython = `
import http.client, json, os, socket, sys
def ask(method, path, body=None, token=None):
    c = http.client.HTTPConnection("muster", timeout=30)
    c.sock = socket.socket(socket.AF_UNIX); c.sock.connect("/run/muster/server.sock")
    headers = {"Content-Type": "application/json"}
    if token: headers["Authorization"] = "Bearer " + token
    c.request(method, path if path.startswith("/api") else "/muster/v1" + path, None if body is None else json.dumps(body), headers)
    r = c.getresponse(); text = r.read().decode("utf-8", "replace"); c.close()
    return r.status, text
def refused(f):
    try: return "got " + repr(f())[:300]
    except OSError as e: return type(e).__name__
`

// Two users on one server: each has sessions of his own, finds the server without being told where it is, and the other's do
// not exist for him, by whatever way he asks.
func TestTwoUsers(t *testing.T) {
	m := newMachine(t)
	m.give("alice", "hers.py", `
import cdsw, os, socket, sys
listener = socket.create_server(("0.0.0.0", 0))
ws = cdsw.launch_workers(1, cpu=0.1, memory=0.2, name="w", env={"PASSWORD": "canary-of-hers"}, code="""
import os, time
print("worker of", os.getuid(), os.getgid(), sorted(os.getgroups()), os.environ["HOME"], os.environ["USER"], flush=True)
open("/dev/stdout", "w").write("by name\\n")
open("written", "w").write("x")
time.sleep(1000)""")
print("SESSION", os.environ["CDSW_ENGINE_ID"], os.environ["CDSW_API_KEY"], os.environ["MUSTER_URL"], ws[0]["id"], os.getpid(), ws[0]["ip_address"], flush=True)
sys.stdin.read()
`)
	hers := m.cmdAs("alice", "python3", "hers.py")
	stdin, err := hers.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	run := m.begin(hers)
	found := run.match(`SESSION (\w+) (\w+) (\S+) (\w+) (\d+) (\S+)`)
	session, worker := found[0], found[3]
	home := filepath.Join(m.root, "alice")
	run.await(fmt.Sprintf("[w] worker of 20001 20001 [20001, 20010] %s alice", home))
	run.await("[w] by name")
	until(t, "the worker wrote a file as alice", func() bool {
		info, err := os.Stat(filepath.Join(home, "written"))
		return err == nil && info.Sys().(*syscall.Stat_t).Uid == 20001
	})
	m.as("alice", "muster", "ps").ok(t).has(t, session, worker)
	m.as("alice", "muster", "logs", worker).ok(t).has(t, "by name")
	m.as("root", "muster", "ps").ok(t).has(t, session, worker)

	// Bob, with the tools that there are.
	if r := m.as("bob", "muster", "ps", "-a").ok(t); strings.Contains(r.out, session) || strings.Contains(r.out, worker) {
		t.Errorf("bob sees\n%s", r.out)
	}
	for _, args := range [][]string{{"logs", session}, {"logs", worker}, {"stop", worker}, {"stop", session}, {"open", "--print", worker}, {"launch", "--session", session, "-c", "1"}} {
		unknown := strings.NewReplacer(session, "aaaaaaaaaaaaaaaa", worker, "aaaaaaaaaaaaaaaa")
		var same []string
		for _, a := range args {
			same = append(same, unknown.Replace(a))
		}
		got, want := m.as("bob", append([]string{"muster"}, args...)...), m.as("bob", append([]string{"muster"}, same...)...)
		if got.code == 0 || got.code != want.code || unknown.Replace(got.out+got.err) != want.out+want.err {
			t.Errorf("muster %s as bob: %d %s\nof what does not exist: %d %s", strings.Join(args, " "), got.code, got.out+got.err, want.code, want.out+want.err)
		}
	}
	// And with all that a program can do: her ids, her token, her process, her files.
	enginePID := m.engineOf(worker)
	m.give("bob", "his.py", askPython+`
session, token, url, worker, pid, ip, engine, home, state = sys.argv[1:]
out = {}
for method, path, body in [
    ("GET", "/sessions/%s", None), ("DELETE", "/sessions/%s", None), ("GET", "/sessions/%s/console", None), ("GET", "/sessions/%s/workers", None),
    ("POST", "/sessions/%s/workers", {"n": 1, "cpu": 0.1, "memory": 0.1, "code": "1"}), ("POST", "/sessions/%s/stop", {"all": True}),
    ("POST", "/sessions/%s/await", {"wait_for_completion": True}), ("POST", "/sessions/%s/interrupt", None), ("POST", "/sessions/%s/stdin", {}),
    ("POST", "/sessions/%s/resize", {"rows": 1, "cols": 1}),
]:
    out[method + " " + path] = ask(method, path % session, body)[0]
for path in ["/engines/" + worker, "/engines/" + worker[:6], "/engines/%s/log" % worker, "/engines/" + session]:
    out["GET engine"] = max(out.get("GET engine", 0), ask("GET", path)[0])
out["sessions"] = ask("GET", "/sessions")
out["her token"] = [ask("GET", "/sessions/self", token=token)[0], ask("GET", "/sessions/" + session, token=token)[0]]
out["her process"] = ask("POST", "/sessions", {"kind": "attached", "project": "/tmp", "owner_pid": int(pid), "name": "x"})
host, port = url[len("http://"):].split(":")
def gateway():
    s = socket.create_connection((host, int(port)), 10)
    s.sendall(("GET /muster/v1/sessions/self HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n" % (host, token)).encode())
    return s.recv(1000)
try: out["her gateway"] = repr(gateway())
except OSError as e: out["her gateway"] = type(e).__name__
out["her engine"] = [refused(lambda: open("/proc/%s/%s" % (engine, f), "rb").read()) for f in ("environ", "mem", "cwd/written", "root/etc/passwd")]
out["signal"] = [refused(lambda: os.kill(int(p), 9)) for p in (pid, engine)]
out["her files"] = [refused(lambda: os.listdir(p)) for p in (home, state + "/sessions", state)]
out["the records"] = [refused(lambda: open(os.path.join(state, f), "rb").read()) for f in ("muster.db", "audit.jsonl")]
out["the token"] = refused(lambda: open("/run/muster/token").read())
print(json.dumps(out))
`)
	args := append([]string{"python3", "his.py"}, found[:6]...)
	args = append(args, strconv.Itoa(enginePID), home, filepath.Join(m.root, "state"))
	var out map[string]any
	if err := json.Unmarshal([]byte(m.as("bob", args...).ok(t).out), &out); err != nil {
		t.Fatal(err)
	}
	for what, got := range out {
		text := fmt.Sprint(got)
		ok := false
		switch what {
		case "sessions":
			ok = text == "[200 []\n]"
		case "her token":
			ok = text == "[401 401]"
		case "her process":
			ok = strings.HasPrefix(text, "[400 ") && strings.Contains(text, "not the process that asks")
		case "her gateway":
			ok = text == "b''" || text == "ConnectionResetError"
		case "her engine", "signal", "her files", "the records", "the token":
			ok = !strings.Contains(text, "got ") && strings.Contains(text, "PermissionError")
		default:
			ok = text == "404"
		}
		if !ok {
			t.Errorf("bob, %s: %s", what, text)
		}
	}
	if len(out) < 20 {
		t.Errorf("only %d answers", len(out))
	}
	// She has noticed nothing of it.
	m.as("alice", "muster", "ps").ok(t).has(t, session, worker, "running")
	m.as("root", "muster", "audit").ok(t).has(t, "alice from unix: create session "+session, "alice by session "+session)

	// Bob has a session of his own at the same time, with the same names and ports.
	m.give("bob", "own.py", "import cdsw\nws = cdsw.launch_workers(1, cpu=0.1, memory=0.2, name='w', code='import os; print(os.getuid(), os.environ[\"USER\"])')\nprint(len(cdsw.await_workers(ws)['workers']))\n")
	m.as("bob", "python3", "own.py").ok(t).has(t, "[w] 20002 bob", "1\n")
	m.as("bob", "muster", "run", "own.py").ok(t).has(t, "[w] 20002 bob")
	stdin.Close()
	if code := run.wait(); code != 0 {
		t.Errorf("alice's script ended with %d", code)
	}
}

// engineOf is the host's number of the first process of an engine's interpreter.
func (m *machine) engineOf(id string) (pid int) {
	m.t.Helper()
	until(m.t, "the engine's process is there", func() bool {
		files, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, f := range files {
			env, err := os.ReadFile(f)
			if err == nil && strings.Contains(string(env), "CDSW_ENGINE_ID="+id+"\x00") {
				pid, _ = strconv.Atoi(strings.Split(f, "/")[2])
				return true
			}
		}
		return false
	})
	return pid
}

// A path that a user names is looked at with the user's rights: what he cannot see is answered like what does not exist, by
// whatever link, and nothing of it is read or shown to his engines.
func TestUsersCannotSeeByTheServer(t *testing.T) {
	m := newMachine(t)
	m.mkdir("alice/secret", 0o700)
	for name, content := range map[string]string{"secret/file.py": "print('hers')", "secret/muster.toml": "[nonsense]\nof = 'hers'\n", "secret/program": "#!/bin/sh\n"} {
		m.give("alice", name, content)
	}
	os.Chmod(filepath.Join(m.root, "alice/secret/program"), 0o755)
	os.Chown(filepath.Join(m.root, "alice/secret"), 20001, 20001)
	m.give("bob", "look.py", askPython+`
her = sys.argv[1]
os.makedirs("links", exist_ok=True)
for name, to in [("there", "/secret/file.py"), ("none", "/secret/nothing.py"), ("dir", "/secret"), ("nodir", "/nothing")]:
    if not os.path.islink("links/" + name): os.symlink(her + to, "links/" + name)
os.makedirs("p", exist_ok=True)
if not os.path.islink("p/muster.toml"): os.symlink(her + "/secret/muster.toml", "p/muster.toml")
here = os.getcwd()
def create(**more):
    body = {"project": here, "code": "1"}; body.update(more)
    body = {k: v for k, v in body.items() if v is not None}
    return ask("POST", "/sessions", body)
pairs = {
    "project": [create(project=her + p) for p in ("/secret", "/nothing")],
    "project by a link": [create(project=here + "/links/" + p) for p in ("dir", "nodir")],
    "script": [create(code=None, script=her + p) for p in ("/secret/file.py", "/secret/nothing.py")],
    "script by a link": [create(code=None, kernel="python3", script="links/" + p) for p in ("there", "none")],
    "interpreter": [ask("POST", "/sessions", {"kind": "attached", "project": here, "owner_pid": os.getpid(), "interpreter": her + p}) for p in ("/secret/program", "/secret/nothing")],
    "kernel by path": [],
}
for p in ("/secret/program", "/secret/nothing"):
    d = here + "/own"; os.makedirs(d, exist_ok=True)
    open(d + "/muster.toml", "w").write('[kernels.mine]\ncommand = "%s"\nendings = [".mine"]\n' % (her + p))
    pairs["kernel by path"].append(create(project=d, kernel="mine"))
out = {}
for what, (a, b) in pairs.items():
    strip = lambda x: [x[0], x[1].replace("/secret/file.py", "/X").replace("/secret/nothing.py", "/X").replace("/secret/program", "/X").replace("/secret/nothing", "/X").replace("/secret", "/X").replace("/nothing", "/X").replace("links/there", "links/X").replace("links/none", "links/X").replace("links/dir", "links/X").replace("links/nodir", "links/X")]
    out[what] = [strip(a), strip(b)]
out["settings by a link"] = [create(project=here + "/p"), None]
print(json.dumps(out))
`)
	var out map[string][2]any
	if err := json.Unmarshal([]byte(m.as("bob", "python3", "look.py", filepath.Join(m.root, "alice")).ok(t).out), &out); err != nil {
		t.Fatal(err)
	}
	for what, pair := range out {
		there := fmt.Sprint(pair[0])
		if what == "settings by a link" {
			if !strings.Contains(there, "symbolic link") || strings.Contains(there, "nonsense") {
				t.Errorf("%s: %s", what, there)
			}
			continue
		}
		if there != fmt.Sprint(pair[1]) || !strings.HasPrefix(there, "[4") && !strings.HasPrefix(there, "[5") || strings.Contains(there, "hers") {
			t.Errorf("%s is told apart: of what is there\n%v\nof what is not\n%v", what, pair[0], pair[1])
		}
	}
	// An engine of his sees of a link into her folder what he sees: nothing, also where it was turned after the server looked.
	m.give("bob", "turn.py", `
import cdsw, os
os.mkdir("t"); open("t/w.py", "w").write("print(open('file.py').read())")
os.symlink(os.path.join(os.path.dirname(os.getcwd()), "alice", "secret"), "to")
r = cdsw.await_workers(cdsw.launch_workers(1, cpu=0.1, memory=0.2, code="""
import os
for p in ("to/file.py", "/proc/1/cwd", "/proc/1/environ"):
    try: print("saw", open(p).read())
    except OSError as e: print("not", type(e).__name__)
"""))
`)
	r := m.as("bob", "muster", "run", "turn.py").ok(t)
	if strings.Contains(r.out, "saw") || strings.Count(r.out, "not PermissionError")+strings.Count(r.out, "not FileNotFoundError") != 3 {
		t.Errorf("%s", r.out+r.err)
	}
}

// The same where an engine starts, which root's init makes: a project that was turned into a link meanwhile leads where its user
// may go, in what is mounted and in what is said.
func TestTurnedProjectsTellNothing(t *testing.T) {
	m := newMachine(t)
	m.mkdir("alice/secret", 0o700)
	m.mkdir("alice/secret/open", 0o755)
	m.put("alice/secret/open/file", "hers")
	os.Chown(filepath.Join(m.root, "alice/secret"), 20001, 20001)
	out := map[string]string{}
	for _, where := range []string{"secret/open", "secret/none"} {
		project := m.mkdir("bob/"+strings.ReplaceAll(where, "/", "-"), 0o755)
		os.Chown(project, 20002, 20002)
		script := m.put("bob/turn.py", `
import cdsw, sys
print("READY", flush=True); sys.stdin.readline()
for code in ("import os; print('saw', os.listdir('.'))", "print('saw', open('/home/cdsw/file').read())"):
    for w in cdsw.await_workers(cdsw.launch_workers(1, cpu=0.1, memory=0.2, code=code))["failures"]:
        print(w["status"], w["k8s"]["message"])
`)
		m.give("bob", strings.ReplaceAll(where, "/", "-")+"/muster.toml", "home_alias = true\n")
		cmd := m.cmdAs("bob", "muster", "run", "--project", project, script)
		typed, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		run := m.begin(cmd)
		run.await("READY")
		if err := errors.Join(os.Rename(project, project+".old"), os.Symlink(filepath.Join(m.root, "alice", where), project)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(typed)
		run.wait()
		said := run.output()
		if strings.Contains(said, "saw") || strings.Contains(said, "hers") || strings.Count(said, "failed launch failed") != 2 {
			t.Errorf("%s: %s", where, said)
		}
		said = strings.NewReplacer(where, "X", filepath.Base(project), "P").Replace(said)
		out[where] = strings.Join(regexp.MustCompile(`failed launch failed.*`).FindAllString(said, -1), "\n")
	}
	if out["secret/open"] != out["secret/none"] {
		t.Errorf("of what is there:\n%s\nof what is not:\n%s", out["secret/open"], out["secret/none"])
	}
}

// Secrets are told to nobody who should not know them: not by command lines, files, logs, errors, the record of requests, or
// what others are told of sessions.
func TestSecretsStay(t *testing.T) {
	m := newMachine(t, "--tcp", "127.0.0.1:"+freePort(t), "--tls", "self")
	token := strings.TrimSpace(m.as("alice", "muster", "token", "create", "--name", "laptop").ok(t).out)
	m.give("alice", "hers.py", `
import cdsw, os, sys, time
cdsw.launch_workers(1, cpu=0.1, memory=0.2, env={"PASSWORD": "canary-env"}, code="# canary-code\nprint('up', flush=True)\nimport time; time.sleep(1000)")
for bad in ({"script": "canary-script.py"}, {"code": "1", "kernel": "nothing", "env": {"PASSWORD": "canary-bad"}}, {"code": "1", "memory": 1e6, "env": {"PASSWORD": "canary-large"}}):
    cdsw.launch_workers(1, cpu=0.1, **dict({"memory": 0.1}, **bad))
with open("key", "w") as f: f.write(os.environ["CDSW_API_KEY"])
print("KEPT", flush=True)
time.sleep(1000)
`)
	run := m.begin(m.cmdAs("alice", "muster", "run", "--env", "SESSION_PASSWORD=canary-session", "hers.py", "argument"))
	run.await("KEPT")
	run.await("] up")
	kept, err := os.ReadFile(filepath.Join(m.root, "alice", "key"))
	if err != nil {
		t.Fatal(err)
	}
	key := string(kept)
	owners, err := m.finishOut(m.cmdAs("root", "cat", "/run/muster/token"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{token, key, strings.TrimSpace(owners), "canary-env", "canary-code", "canary-bad", "canary-large"}
	holds := func(text string) string {
		for _, s := range secrets {
			if s != "" && strings.Contains(text, s) {
				return s
			}
		}
		return ""
	}
	// Command lines, which everybody sees: of the server, keepers, inits and engines. (--env is the person's own command line.)
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, _ := os.ReadFile(f); holds(string(b)) != "" {
			t.Errorf("%s: %q", f, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	// What the server says, and records.
	for what, text := range map[string]string{
		"the server's log": m.server.output(), "the record": m.as("root", "muster", "audit", "--json").ok(t).out,
		"root's list": m.as("root", "muster", "ps", "-a", "--json").ok(t).out, "her list": m.as("alice", "muster", "ps", "-a", "--json").ok(t).out,
		"bob's list": m.as("bob", "muster", "ps", "-a", "--json").ok(t).out, "tokens": m.as("root", "muster", "token", "ls", "--json").ok(t).out,
	} {
		if s := holds(text); s != "" {
			t.Errorf("%s tells %s", what, s)
		}
	}
	// Files: none that holds a secret may be read by another user, and nothing of the server's state by anybody.
	runtime := filepath.Join("/proc", strconv.Itoa(m.holder.Process.Pid), "root/run/muster")
	seen := 0
	for _, root := range []string{filepath.Join(m.root, "state"), filepath.Join(m.root, "cache"), runtime} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil // it went
			}
			seen++
			open := info.Mode().Perm()&0o077 != 0 && reachable(filepath.Dir(path))
			if open && strings.HasPrefix(path, filepath.Join(m.root, "state")) {
				t.Errorf("others reach %s", path)
			}
			b, err := os.ReadFile(path)
			if s := holds(string(b)); err == nil && open && s != "" {
				t.Errorf("%s, which others may read, holds %s", path, s)
			}
			// At rest, too: only the owner's own token, in its file.
			if s := holds(string(b)); err == nil && s != "" && !(filepath.Base(path)[:5] == "token" && s == strings.TrimSpace(owners)) {
				t.Errorf("%s holds %s", path, s)
			}
			return nil
		})
	}
	if seen < 10 {
		t.Errorf("only %d files were looked at", seen)
	}
	if info, err := os.Stat(filepath.Join(m.root, "state", "sessions")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// reachable reports whether other users get into a folder.
func reachable(dir string) bool {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o011 == 0 {
			return false
		}
	}
	return true
}

func (m *machine) finishOut(cmd *exec.Cmd) (string, error) {
	r := m.finish(cmd, deadline)
	if r.code != 0 {
		return "", fmt.Errorf("exit code %d: %s", r.code, r.err)
	}
	return r.out, nil
}

// A token over TCP with TLS: good from the moment it is made, known by the server's fingerprint, and worthless, with what is
// being followed by it, when it is revoked.
func TestTokensOverTCP(t *testing.T) {
	port := freePort(t)
	m := newMachine(t, "--tcp", "127.0.0.1:"+port, "--tls", "self")
	fingerprint := m.server.match(`MUSTER_TLS_FINGERPRINT=(\S+)`)[0]
	token := strings.TrimSpace(m.as("alice", "muster", "token", "create", "--name", "laptop", "--expires", "30d").ok(t).out)
	far := func(user, token, fingerprint string, args ...string) *exec.Cmd {
		cmd := m.cmdAs(user, append([]string{"muster"}, args...)...)
		cmd.Env = append(cmd.Env, "MUSTER_HOST=https://127.0.0.1:"+port, "MUSTER_TOKEN="+token, "MUSTER_TLS_FINGERPRINT="+fingerprint)
		return cmd
	}
	m.finish(far("bob", token, fingerprint, "run", "--project", filepath.Join(m.root, "alice"), "-c", "import os; print(os.getuid(), os.environ['HOME'])"), 4*deadline).
		ok(t).has(t, "20001 "+filepath.Join(m.root, "alice"))
	m.finish(far("bob", token, "", "ps"), deadline).has(t, "is not known to be the right one", "MUSTER_TLS_FINGERPRINT")
	other := "sha256//" + strings.Repeat("A", 43) + "="
	m.finish(far("bob", token, other, "ps"), deadline).has(t, "another server answers")
	m.finish(far("bob", "muster_nonsense", fingerprint, "ps"), deadline).has(t, "token is not known")
	m.finish(far("bob", "", fingerprint, "ps"), deadline).has(t, "no token")
	long := m.begin(far("bob", token, fingerprint, "run", "--project", filepath.Join(m.root, "alice"), "-c", "import time; print('going', flush=True); time.sleep(1000)"))
	long.await("going")
	id := regexp.MustCompile(`(?m)^(\w+)\s+laptop\s+alice`).FindStringSubmatch(m.as("alice", "muster", "token", "ls").ok(t).out)
	if id == nil {
		t.Fatal("the token is not in the list")
	}
	if r := m.as("bob", "muster", "token", "revoke", id[1]); r.code == 0 {
		t.Error("bob revoked her token")
	}
	follow := m.begin(far("bob", token, fingerprint, "logs", "-f", regexp.MustCompile(`(?m)^(\w+)\s.*running`).FindStringSubmatch(m.as("alice", "muster", "ps").ok(t).out)[1]))
	follow.await("going")
	m.as("alice", "muster", "token", "revoke", id[1]).ok(t)
	if code := follow.wait(); code == 0 {
		t.Errorf("logs -f ended as if all had been told: %s", follow.output())
	}
	m.finish(far("bob", token, fingerprint, "ps"), deadline).has(t, "token is not known")
	m.as("root", "muster", "audit").ok(t).has(t, "alice from unix: create token", "alice from unix: revoke token", "alice with token "+id[1]+" from 127.0.0.1: create session")
}

// freePort is one that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	return port
}

// The server's end ends nothing that is to go on, and users find their sessions again at the next one.
func TestUsersOutliveTheServer(t *testing.T) {
	m := newMachine(t)
	run := m.begin(m.cmdAs("alice", "muster", "run", "-c", "import cdsw, time\nw = cdsw.launch_workers(1, cpu=0.1, memory=0.2, name='w', code='print(\"working\", flush=True); import time; time.sleep(1000)')\ntime.sleep(1000)"))
	run.await("[w] working")
	id := regexp.MustCompile(`(?m)^(\w+)\s.*\sscript\s`).FindStringSubmatch(m.as("alice", "muster", "ps").ok(t).out)[1]
	m.as("alice", "muster", "run", "--name", "over", "-c", "print('over')").ok(t)
	m.kill()
	m.up()
	m.as("alice", "muster", "ps").ok(t).has(t, id, "running")
	m.as("alice", "muster", "ps", "-a").ok(t).has(t, "over", "succeeded")
	if r := m.as("bob", "muster", "ps", "-a").ok(t); strings.Contains(r.out, id) || strings.Contains(r.out, "over") {
		t.Errorf("bob sees\n%s", r.out)
	}
	m.as("alice", "muster", "launch", "--session", id, "--cpu", "0.1", "--memory", "0.2", "-c", "import os; print('again', os.getuid())").ok(t)
	until(t, "a worker of alice's ran", func() bool { return strings.Contains(m.as("alice", "muster", "logs", id).out, "again 20001") })
	m.as("alice", "muster", "stop", id).ok(t)
}

// A shared server may be elsewhere: whoever is told where finds it, with each client, and needs no token, although one of root's lies there.
func TestUsersOfAServerElsewhere(t *testing.T) {
	requireR(t)
	m := newMachine(t)
	at := "MUSTER_RUNTIME_DIR=/run/elsewhere"
	cmd := m.cmdAs("root", "muster", "up", "--shared", "--web", "127.0.0.1:0", "--state-dir", filepath.Join(m.root, "state-elsewhere"))
	cmd.Env = append(cmd.Env, at)
	m.begin(cmd).await("the server answers at unix:///run/elsewhere")
	library := m.as("bob", "muster", "run", "--kernel", "r", "-c", "cat('LIBRARY', find.package('cdsw'), '\\n')").ok(t).out
	library = filepath.Dir(strings.Fields(library[strings.Index(library, "LIBRARY"):])[1])
	for _, args := range [][]string{
		{"muster", "run", "-c", "print('seen')"},
		{"python3", "-c", "import cdsw; cdsw.list_workers(); print('seen')"},
		{"Rscript", "-e", ".libPaths(c(.libPaths(), '" + library + "')); library(cdsw); w <- list.workers(); cat('seen\\n')"},
	} {
		cmd := m.cmdAs("bob", args...)
		cmd.Env = append(cmd.Env, at)
		if r := m.finish(cmd, 4*deadline); r.code != 0 || r.out != "seen\n" || r.err != "" {
			t.Errorf("%q: exit code %d\n%s%s", args, r.code, r.out, r.err)
		}
	}
}

// kill ends the server, which is a child of nsenter's, at once.
func (m *machine) kill() {
	m.t.Helper()
	m.server.cmd.Process.Kill()
	m.server.wait()
}

// Who may not share a server, and where nobody can.
func TestSharedNeedsRootAndIsolation(t *testing.T) {
	w := newWorld(t)
	if r := w.muster("up", "--shared", "--rung", "plain"); r.code == 0 || !strings.Contains(r.err, "needs isolated engines") {
		t.Errorf("%d %s", r.code, r.err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--listen", "0.0.0.0:7070"}, "--tls self"},
		{[]string{"--tcp", ":7070"}, "--insecure"},
		{[]string{"--web", "0.0.0.0:7070"}, "--web 0.0.0.0:7070"},
		{[]string{"--tls", "self"}, "--tcp"},
		{[]string{"--tls", "mine"}, "must be self"},
		{[]string{"--tcp", "127.0.0.1:7070", "--tls-cert", "x.pem"}, "--tls-key"},
		{[]string{"--quota", "/nowhere/quota.toml"}, "/nowhere/quota.toml"},
	} {
		if r := w.muster(append([]string{"up"}, c.args...)...); r.code != 2 || !strings.Contains(r.err, c.says) {
			t.Errorf("up %v: %d %s", c.args, r.code, r.err)
		}
	}
}

// Every command and the sample of docs/users.md.
func TestUsersPage(t *testing.T) {
	page := read(t, "docs/users.md")
	samples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(samples) != 1 {
		t.Fatalf("%d samples in docs/users.md, this test knows one", len(samples))
	}
	dir := t.TempDir()
	quota := filepath.Join(dir, "quota.toml")
	if err := os.WriteFile(quota, []byte(samples[0][1]), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	m := newMachine(t, "--tcp", "0.0.0.0:"+port, "--tls", "self", "--quota", quota)
	fingerprint := m.server.match(`MUSTER_TLS_FINGERPRINT=(\S+)`)[0]
	var token, id string
	ran := 0
	for _, l := range lines(page) {
		command, ok := strings.CutPrefix(l, "    ")
		if !ok {
			continue
		}
		command, _, _ = strings.Cut(command, "  #")
		user := "alice"
		switch args := strings.Fields(command); {
		case args[0] == "export", args[1] == "up": // what this world has been set up with
			for _, a := range args[2:] {
				if known := strings.HasPrefix(a, "MUSTER_") || strings.Contains("--shared --tcp 0.0.0.0:7443 --tls self --quota /etc/muster/quota.toml", a); !known {
					t.Errorf("%s: no test runs it with %s", command, a)
				}
			}
			ran++
			continue
		case args[1] == "audit":
			user = "root"
			fallthrough
		default:
			for i := range args {
				args[i] = strings.Replace(args[i], "ID", id, 1)
			}
			out := m.as(user, args...).ok(t).out
			switch strings.Join(args[:min(3, len(args))], " ") {
			case "muster token create":
				token = strings.TrimSpace(out)
			case "muster token ls":
				id = strings.Fields(lines(out)[1])[0]
				far := m.cmdAs("bob", "muster", "ps")
				far.Env = append(far.Env, "MUSTER_HOST=https://localhost:"+port, "MUSTER_TOKEN="+token, "MUSTER_TLS_FINGERPRINT="+fingerprint)
				m.finish(far, deadline).ok(t)
			}
			ran++
		}
	}
	if ran < 10 {
		t.Errorf("only %d commands", ran)
	}
	// The quotas of the sample hold.
	m.as("bob", "muster", "run", "--memory", "65", "-c", "1").has(t, "user bob may have 64 GB in all")
}

// A browser on the machine is its user's: it opens what is of that user's sessions without a login, and nothing else. And a
// browser that logged in by a token is logged out with it.
func TestBrowsersOfUsers(t *testing.T) {
	m := newMachine(t)
	web := m.server.match(`below http://(localhost:\d+)`)[0]
	run := m.begin(m.cmdAs("alice", "muster", "run", "-c", "import os; print('APP', os.environ['CDSW_ENGINE_ID'], flush=True); open('index.html','w').write('an app of hers'); os.execvp('python3', ['python3', '-m', 'http.server', '--bind', '127.0.0.1', os.environ['CDSW_APP_PORT']])"))
	id := run.match(`APP (\w+)`)[0]
	link := "http://" + web + "/app/" + id + "/"
	if got := strings.TrimSpace(m.as("alice", "muster", "open", id).ok(t).out); strings.Contains(got, "token") || !strings.Contains(got, id) {
		t.Errorf("the link is %s", got)
	}
	browse := func(user string, more ...string) string {
		args := []string{"curl", "-sSL", "--max-redirs", "8", "-c", "jar", "-b", "jar", "-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document"}
		return m.as(user, append(args, append(more, link)...)...).out
	}
	until(t, "she sees her app", func() bool { return strings.Contains(browse("alice"), "an app of hers") })
	for _, user := range []string{"bob", "root"} {
		if page := browse(user); strings.Contains(page, "an app of hers") || !strings.Contains(page, "password") {
			t.Errorf("%s sees\n%s", user, page)
		}
	}
	// What forwards for others is nobody's browser.
	if page := m.as("alice", "curl", "-sSL", "-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document", "-H", "X-Forwarded-For: 10.0.0.1", link).out; strings.Contains(page, "an app of hers") {
		t.Error("a proxy of hers lets others in")
	}
	token := strings.TrimSpace(m.as("alice", "muster", "token", "create").ok(t).out)
	tokenID := strings.Fields(lines(m.as("alice", "muster", "token", "ls").ok(t).out)[1])[0]
	login := []string{"--data-urlencode", "muster_token=" + token, "-G"}
	if page := browse("bob", login...); !strings.Contains(page, "an app of hers") {
		t.Errorf("with her token bob's browser sees\n%s", page)
	}
	if page := browse("bob"); !strings.Contains(page, "an app of hers") {
		t.Errorf("with the cookie of her token bob's browser sees\n%s", page)
	}
	m.as("alice", "muster", "token", "revoke", tokenID).ok(t)
	if page := browse("bob"); strings.Contains(page, "an app of hers") {
		t.Error("the cookie outlives the token")
	}
	// The API knows no person, on any machine.
	if got := m.as("alice", "curl", "-s", "http://"+web+"/muster/v1/sessions").out; !strings.Contains(got, "no token") {
		t.Errorf("the API by a browser: %s", got)
	}
	m.as("root", "muster", "audit").ok(t).has(t, "alice from 127.0.0.1: log in")
}

// What the server runs to learn of a user's own programs, it runs as that user.
func TestProbesRunAsTheUser(t *testing.T) {
	m := newMachine(t)
	m.mkdir("alice/bin", 0o755)
	m.put("alice/bin/python3", "#!/bin/sh\nid -u >> \"$HOME/asked\"\nid -u > /tmp/x\nexec /usr/bin/python3 \"$@\"\n")
	os.Chown(filepath.Join(m.root, "alice/bin"), 20001, 20001)
	os.Chmod(filepath.Join(m.root, "alice/bin/python3"), 0o755)
	cmd := m.cmdAs("alice", "muster", "run", "-c", "import os; print('ran', os.getuid())")
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(m.root, "alice/bin")+":"+m.bin+":/usr/bin:/bin")
	m.finish(cmd, 4*deadline).ok(t).has(t, "ran 20001")
	asked, err := os.ReadFile(filepath.Join(m.root, "alice", "asked"))
	if err != nil || strings.TrimSpace(string(asked)) != "20001" {
		t.Errorf("the wrapper was asked by %q (%v)", asked, err)
	}
}

// The packages of Python and R ask a session's server by https, and know it by its fingerprint or its certificate.
func TestClientsOverTLS(t *testing.T) {
	requireR(t)
	port := freePort(t)
	m := newMachine(t, "--tcp", "127.0.0.1:"+port, "--tls", "self")
	fingerprint := m.server.match(`MUSTER_TLS_FINGERPRINT=(\S+)`)[0]
	run := m.begin(m.cmdAs("alice", "muster", "run", "-c", "import cdsw, os, time\ncdsw.launch_workers(1, cpu=0.1, memory=0.2, name='found', code='import time; time.sleep(1000)')\nopen('key', 'w').write(os.environ['CDSW_API_KEY'])\nprint('KEPT', os.environ['R_LIBS'] if 'R_LIBS' in os.environ else '', flush=True)\ntime.sleep(1000)"))
	run.await("KEPT")
	key, err := os.ReadFile(filepath.Join(m.root, "alice", "key"))
	if err != nil {
		t.Fatal(err)
	}
	library := strings.TrimSpace(m.as("bob", "muster", "run", "--kernel", "r", "-c", "cat('LIBRARY', find.package('cdsw'), '\\n')").ok(t).out)
	library = filepath.Dir(strings.Fields(library[strings.Index(library, "LIBRARY"):])[1])
	cert := m.put("bob/cert.pem", string(must(os.ReadFile(filepath.Join(m.root, "state", "tls-cert.pem")))))
	other := "sha256//" + strings.Repeat("A", 43) + "="
	for _, program := range [][]string{
		{"python3", "-c", "import cdsw; print([w['name'] for w in cdsw.list_workers()])"},
		{"Rscript", "-e", ".libPaths(c(.libPaths(), '" + library + "')); library(cdsw); print(vapply(list.workers(), function(w) w$name, ''))"},
	} {
		for _, c := range []struct{ host, known, want string }{
			{"127.0.0.1", "MUSTER_TLS_FINGERPRINT=" + fingerprint, "found"},
			{"localhost", "MUSTER_TLS_CA=" + cert, "found"},
			{"127.0.0.1", "MUSTER_TLS_FINGERPRINT=" + other, ""},
			{"127.0.0.1", "NOTHING=", ""},
		} {
			cmd := m.cmdAs("bob", program...)
			cmd.Env = append(cmd.Env, "MUSTER_URL=https://"+c.host+":"+port, "CDSW_API_KEY="+string(key), "CDSW_ENGINE_ID=x", c.known)
			r := m.finish(cmd, 2*deadline)
			if (c.want != "") != strings.Contains(r.out, "found") || (c.want == "") == (r.code == 0) {
				t.Errorf("%s with %s: %d %s", program[0], c.known, r.code, r.out+r.err)
			}
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// Two thousand idle connections of one user are his own affair.
func TestIdleConnectionsOfAUser(t *testing.T) {
	m := newMachine(t)
	m.give("bob", "idle.py", `
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held, refused = [], 0
for i in range(2000):
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/muster/server.sock")
    held.append(s)
for s in held:
    s.settimeout(0.001)
    try:
        if s.recv(10) is not None: refused += 1
    except (TimeoutError, BlockingIOError): pass
    except OSError: refused += 1
print("HELD", refused, flush=True)
sys.stdin.read()
`)
	cmd := m.cmdAs("bob", "python3", "idle.py")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	refused, _ := strconv.Atoi(m.begin(cmd).match(`HELD (\d+)`)[0])
	if refused < 900 {
		t.Errorf("%d of 2000 were refused", refused)
	}
	m.as("alice", "muster", "run", "-c", "print('she works')").ok(t).has(t, "she works")
	m.as("root", "muster", "ps").ok(t)
	if r := m.as("bob", "muster", "ps"); r.code == 0 {
		t.Errorf("he has one more: %s", r.out)
	}
}
