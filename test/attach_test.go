package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// attachClient makes the process that runs it a session, as a client library would: a server is there afterwards, whoever
// started it. Launching is left to the Python client, which finds all it needs in the environment.
const attachClient = `
import http.client, json, os, socket, subprocess, sys, time

def attach(name):
    run = os.environ["MUSTER_RUNTIME_DIR"]
    class Connection(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(run + "/server.sock")
    body = json.dumps({
        "kind": "attached", "name": name, "project": os.getcwd(), "owner_pid": os.getpid(), "interpreter": sys.executable,
        "base_env": dict(os.environ)})
    for attempt in range(10):
        try:
            with open(run + "/token") as f:
                token = f.read().strip()
            c = Connection("muster")
            c.request("POST", "/muster/v1/sessions", body, {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
            reply = json.load(c.getresponse())
            if "kind" in reply and reply["kind"] != "unavailable":
                break
        except OSError:
            pass
        log = open("server.log", "a")
        server = subprocess.Popen([os.environ["MUSTER"], "up", "--until-idle", "2s"], stdout=log, stderr=log, start_new_session=True)
        while server.poll() is None and not os.path.exists(run + "/server.sock"):
            time.sleep(0.01)
    os.environ.update(reply["env"])
    return reply
`

// outside starts a Python program of a user's, outside of every engine.
func (w *world) outside(python, name, source string) *background {
	w.t.Helper()
	w.write(name, attachClient+source)
	cmd := exec.Command(python, "-u", name)
	cmd.Dir = w.project
	cmd.Env = append(w.env, "MUSTER="+binary(w.t), "PYTHONPATH="+filepath.Join(repo(w.t), "clients", "python"))
	return w.begin(cmd)
}

const attachedSession = `
me = attach("notebook")
import cdsw
print("session", me["id"], os.environ["CDSW_MASTER_IP"])
code = '''
import os, socket, sys
c = socket.create_connection((os.environ["CDSW_MASTER_IP"], %d))
c.sendall(("hello from " + sys.prefix).encode())
c.shutdown(socket.SHUT_WR)
print("answered:", c.recv(100).decode())
'''
for address, port in (("0.0.0.0", 6061), ("127.0.0.1", 6062), (os.environ["CDSW_IP_ADDRESS"], 6063)):
    ws = cdsw.launch_workers(1, cpu=0.2, memory=0.2, code=code % port)
    time.sleep(3)  # as somebody who types
    s = socket.create_server((address, port))
    c, _ = s.accept()
    print(address, "heard:", c.makefile().read())
    c.sendall(b"hello back")
    c.close()
    s.close()
    done = cdsw.await_workers(ws, timeout_seconds=30)
    print("workers", [w["status"] for w in done["workers"]], len(done["failures"]))
serving = cdsw.launch_workers(1, cpu=0.2, memory=0.2, code='''
import os, socket
s = socket.create_server((os.environ["CDSW_IP_ADDRESS"], 8786))
print("listening")
while True: s.accept()[0].sendall(b"a worker's port")
''')
ip = cdsw.await_workers(serving, wait_for_completion=False)["workers"][0]["ip_address"]
while True:
    try:
        c = socket.create_connection((ip, 8786), 10)
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
print("from here:", c.recv(100).decode())
print("done")
sys.stdin.read()
`

// A plain Python process of a virtual environment becomes a session: nobody started a server, its workers reach it, it
// reaches them, its end is theirs and the server's, and nothing is left.
func TestAttachedPython(t *testing.T) {
	w := newWorld(t)
	venv := filepath.Join(w.root, "venv")
	if out, err := exec.Command("python3", "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := w.count()
	b := w.outside(venv+"/bin/python", "notebook.py", attachedSession)
	id := b.match(`session (\S+) `)[0]
	ps := w.muster("ps").ok(t)
	if !strings.Contains(ps.out, "attached") || !strings.Contains(ps.out, "notebook") {
		t.Errorf("muster ps:\n%s", ps.out)
	}
	b.await("done")
	out := b.output()
	for _, address := range []string{"0.0.0.0", "127.0.0.1"} {
		if !strings.Contains(out, address+" heard: hello from "+venv+"\n") {
			t.Errorf("the worker that connects to a listener on %s:\n%s", address, out)
		}
	}
	if strings.Count(out, "workers ['succeeded'] 0") != 3 || !strings.Contains(out, "from here: a worker's port") {
		t.Errorf("output:\n%s", out)
	}
	logs := w.muster("logs", id).ok(t)
	if strings.Count(logs.out, "answered: hello back") != 3 || !strings.Contains(logs.out, "listening") {
		t.Errorf("muster logs:\n%s", logs.out)
	}
	b.cmd.Process.Kill()
	<-b.done
	until(t, "the server ends by itself", func() bool { return w.cmd("ps").Run() != nil })
	w.withoutConsoles()
	w.nothingLeft(before)
}

// withoutConsoles removes what is meant to stay: consoles, the server's lock files.
func (w *world) withoutConsoles() {
	w.t.Helper()
	until(w.t, "no keeper is left", func() bool { return len(w.keepers()) == 0 })
	for _, pattern := range []string{"state/sessions/*", "run/.*"} {
		files, _ := filepath.Glob(filepath.Join(w.root, pattern))
		for _, f := range files {
			os.RemoveAll(f)
		}
	}
}

const attachedCrew = `
attach("crew")
import cdsw
cdsw.launch_workers(2, cpu=0.2, memory=0.2, code='import time; print("up"); time.sleep(4321)')
cdsw.await_workers(wait_for_completion=False)
print("crew is up")
time.sleep(4321)
`

// kill -9 of the process, of the keeper, of the server with the keeper: links, routes, rules and processes are as before.
func TestAttachedKillNine(t *testing.T) {
	for _, c := range []struct {
		name string
		pids func(w *world, server, session *background) []int
	}{
		{"the process", func(_ *world, _, session *background) []int { return []int{session.cmd.Process.Pid} }},
		{"the keeper", func(w *world, _, _ *background) []int { return w.keepers() }},
		{"the server, then the process", func(_ *world, server, session *background) []int {
			return []int{server.cmd.Process.Pid, session.cmd.Process.Pid}
		}},
		{"all at once", func(w *world, server, session *background) []int {
			return append(w.keepers(), server.cmd.Process.Pid, session.cmd.Process.Pid)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.count()
			server := w.server()
			session := w.outside("python3", "crew.py", attachedCrew)
			session.await("crew is up")
			if now := w.count(); now["links"] != before["links"]+1 || now["routes"] != before["routes"]+1 || now["nft lines"] != before["nft lines"] {
				t.Errorf("an attached session adds a link and a route: before %v, now %v", before, now)
			}
			kill(t, c.pids(w, server, session))
			until(t, "link and route are gone", func() bool {
				now := w.count()
				return now["links"] == before["links"] && now["routes"] == before["routes"]
			})
			session.cmd.Process.Kill()
			server.cmd.Process.Signal(syscall.SIGTERM)
			<-session.done
			<-server.done
			w.muster("run", "-c", "print('sweeps')").ok(t)
			os.Remove(filepath.Join(w.root, "run", "server.sock")) // of a server that was killed
			os.Remove(filepath.Join(w.root, "run", "token"))
			w.withoutConsoles()
			w.nothingLeft(before)
		})
	}
}

// Five that start at the same moment: one serves, the others are content with it; later ones too.
func TestUpUntilIdleTogether(t *testing.T) {
	w := makeWorld(t)
	var all []*background
	for range 5 {
		all = append(all, w.start("up", "--until-idle", "3s", "--rung", "plain"))
	}
	until(t, "one answers", func() bool { return w.cmd("ps").Run() == nil })
	w.muster("up", "--until-idle", "1s").ok(t).has(t, "a server already runs")
	served := 0
	for _, b := range all {
		if code := b.wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, b.output())
		}
		if strings.Contains(b.output(), "the server answers at") {
			served++
		} else if !strings.Contains(b.output(), "a server already runs") {
			t.Errorf("said: %s", b.output())
		}
	}
	if served != 1 {
		t.Errorf("%d served", served)
	}
}
