package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// outsider is an interpreter of the user's own in a virtual environment, with nothing in it but what "muster clients install"
// puts there.
func (w *world) outsider() (python string) {
	w.t.Helper()
	venv := filepath.Join(w.root, "venv")
	if out, err := exec.Command("python3", "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	python = venv + "/bin/python"
	w.muster("clients", "install", "--python", python).ok(w.t).has(w.t, "cdsw, cml and muster are in "+venv)
	return python
}

// outsiderR gives R a library with nothing in it but what "muster clients install" puts there.
func (w *world) outsiderR() (library string) {
	w.t.Helper()
	requireR(w.t)
	library = filepath.Join(w.root, "library")
	if err := os.Mkdir(library, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.env = append(w.env, "R_LIBS="+library)
	w.finish(w.cmd("clients", "install", "--r"), 4*deadline).ok(w.t).has(w.t, "cdsw and cml are in "+library)
	return library
}

// plain prepares a program that knows of no session and no server.
func (w *world) plain(name string, args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = w.project, append([]string{}, w.env...)
	return cmd
}

// endServer ends the server that an attached process started, instead of waiting until it ends by itself.
func (w *world) endServer() {
	w.t.Helper()
	said := w.muster("up", "--until-idle", "1s").ok(w.t).err
	pid := regexp.MustCompile(`a server already runs \(pid (\d+),`).FindStringSubmatch(said)
	if pid == nil {
		w.t.Fatalf("no server to be ended: %s", said)
	}
	n, _ := strconv.Atoi(pid[1])
	syscall.Kill(n, syscall.SIGTERM)
	w.serverEnds()
}

// serverEnds waits until the server that the attached process started has ended by itself, and removes what is meant to stay.
func (w *world) serverEnds() {
	w.t.Helper()
	until(w.t, "the server ends by itself", func() bool { return w.cmd("ps").Run() != nil })
	w.withoutConsoles()
	os.Remove(filepath.Join(w.root, "run", "server.log"))
}

const clientScript = `
import os, sys
def print(*values):  # at one go: workers' lines may come at any time
    sys.stdout.write(" ".join(map(str, values)) + "\n")
early = os.environ.get("CDSW_IP_ADDRESS")
import cdsw
print("address", early, os.environ["CDSW_IP_ADDRESS"], int(os.environ["CDSW_APP_PORT"]), os.environ["CDSW_MASTER_ID"] == os.environ["CDSW_ENGINE_ID"])

cdsw.launch_workers(1, cpu=0.2, memory=0.2, name="early", code="print('while you are busy')")
while not os.path.exists("seen"):  # busy: never at rest, never in a call of ours
    sum(range(1000))

ws = cdsw.launch_workers(3, cpu=0.2, memory=0.2, name="crew", code="for i in range(100): print('line', i)")
done = cdsw.await_workers(ws)
print("succeeded", len(done["workers"]), "failed", len(done["failures"]))

bad = cdsw.launch_workers(1, cpu=0.2, memory=0.2, name="bad", code="import sys; print('wrong', file=sys.stderr); sys.exit(3)")
cdsw.await_workers(bad)

import multiprocessing
def child(i):
    return len(cdsw.list_workers())  # the parent's session is the child's
with multiprocessing.get_context("fork").Pool(2) as pool:
    print("children see", pool.map(child, range(4)))
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(print, ["printed once"])
pid = os.fork()
if pid == 0:
    raise SystemExit(0)
os.waitpid(pid, 0)

last = cdsw.launch_workers(1, cpu=0.2, memory=0.2, name="last", code='''
import os, sys, time
for i in range(500): print("last line", i)
sys.stdout.flush()
open("printed", "w").close()
time.sleep(4321)
''')
while not os.path.exists("printed"):
    sum(range(1000))
cdsw.await_workers(last, wait_for_completion=False)  # its code may have come this far before that is known
print("the end", cdsw.list_workers()[0]["status"])
`

// A plain python3 becomes a session by importing cdsw: nobody started a server, and nothing is left after it.
func TestClientPython(t *testing.T) {
	w := newWorld(t)
	python := w.outsider()
	w.write("script.py", clientScript)
	before := w.count()
	b := w.begin(w.plain(python, "-u", "script.py"))
	b.await("[early] while you are busy")
	w.muster("ps").ok(t).has(t, "attached", "script.py")
	w.write("seen", "")
	if code := b.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	out := b.output()
	if !regexp.MustCompile(`(?m)^address None 100\.\d+\.\d+\.\d+ 8090 True$`).MatchString(out) {
		t.Error("its address is not known after the import")
	}
	crew, _, _ := strings.Cut(out, "succeeded 3 failed 0")
	if n := len(regexp.MustCompile(`(?m)^\[crew( \w+)?\] line \d+$`).FindAllString(crew, -1)); n != 300 {
		t.Errorf("%d of 300 lines before what follows the await", n)
	}
	for text, n := range map[string]int{
		"[bad] wrong\n": 1, "muster: worker bad ended with exit code 3\n": 1, "children see [5, 5, 5, 5]\n": 1, "printed once\n": 1,
		"[last] last line": 500, "the end running\n": 1,
	} {
		if got := strings.Count(out, text); got != n {
			t.Errorf("%q is shown %d times, not %d", text, got, n)
		}
	}
	if t.Failed() {
		t.Log(tail(out))
	}
	w.serverEnds()
	w.nothingLeft(before)
}

// At a prompt lines appear while nobody types, and Ctrl-C is not the session's end.
func TestClientPythonPrompt(t *testing.T) {
	w := newWorld(t)
	python := w.outsider()
	w.write("w.py", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('now', flush=True)\ntime.sleep(4321)\n")
	before := w.count()
	x := w.terminalOf(50, 100, w.plain(python, "-q"))
	x.sees(">>>")
	x.typed("import cdsw; w = cdsw.launch_workers(1, 0.2, 0.2, name='w', script='w.py')\r")
	x.seesThat("there is a prompt again", func(rows []string) bool { return len(rows) > 1 && rows[len(rows)-1] == ">>>" })
	w.write("go", "")
	x.has("[w] now")
	x.typed("\x03")
	x.has("KeyboardInterrupt")
	x.typed("cdsw.list_workers()[0]['status']\r")
	x.sees("'running'", ">>>")
	x.typed("exit()\r")
	x.ends(0)
	w.endServer()
	w.nothingLeft(before)
}

// kill -9 of the process ends its workers; the next process finds a server that is there, or starts one.
func TestClientPythonKillNine(t *testing.T) {
	w := newWorld(t)
	python := w.outsider()
	w.write("script.py", "import cdsw, time\ncdsw.launch_workers(2, 0.2, 0.2, name='crew', code='import time; print(\"up\", flush=True); time.sleep(4321)')\ntime.sleep(4321)\n")
	before := w.count()
	for range 2 {
		b := w.begin(w.plain(python, "script.py"))
		b.match(`(?s)\] up\n.*\] up\n`)
		b.cmd.Process.Kill()
		<-b.done
		took := until(t, "no keeper is left", func() bool { return len(w.keepers()) == 0 })
		t.Logf("the workers ended %v after kill -9", took.Round(1e6))
	}
	w.endServer()
	w.nothingLeft(before)
}

// The manual's network examples as plain scripts.
func TestClientNetworkExample(t *testing.T) {
	w := newWorld(t)
	python := w.outsider()
	w.outsiderR()
	w.copyExample("network")
	before := w.count()
	for range 3 {
		out := w.finish(w.plain(python, "master.py"), 2*deadline).ok(t).out
		if strings.Count(out, "Master received: Hello From Worker!") != 1 || !strings.Contains(out, "] Worker received: Hello From Server!") {
			t.Errorf("Python:\n%s", out)
		}
	}
	for range 3 {
		out := w.finish(w.plain("Rscript", "master.r"), 2*deadline).ok(t).out
		if strings.Count(out, "Hello from Worker") != 2 || strings.Count(out, "Worker received:") != 2 {
			t.Errorf("R:\n%s", out)
		}
	}
	w.endServer()
	w.nothingLeft(before)
}

// Two processes that want the same port of the host: the kernel refuses the second's listener, and its workers are not led to
// the first's; its console says whose the port is.
func TestClientOnePort(t *testing.T) {
	w := newWorld(t)
	python := w.outsider()
	w.write("first.py", `
import cdsw, socket
s = socket.create_server(("0.0.0.0", 6075))
print("listening", flush=True)
s.accept()
print("somebody came", flush=True)
`)
	w.write("second.py", `
import cdsw, os, socket, time
try:
    socket.create_server(("0.0.0.0", 6075))
except OSError as e:
    print("refused:", e)
ws = cdsw.launch_workers(1, 0.2, 0.2, name="w", code='''
import os, socket
try:
    c = socket.create_connection((os.environ["CDSW_MASTER_IP"], 6075))
    print("read", c.recv(1))
except ConnectionResetError: print("reset")
''')
cdsw.await_workers(ws)
`)
	first := w.begin(w.plain(python, "first.py"))
	first.await("listening")
	r := w.finish(w.plain(python, "second.py"), 2*deadline).ok(t)
	r.has(t, "Address already in use", "[w] reset",
		"port 6075 of this machine belongs to another process (python, pid "+strconv.Itoa(first.cmd.Process.Pid)+"): bind another port")
	if strings.Contains(first.output(), "somebody came") {
		t.Error("the second's worker reached the first's listener")
	}
	first.cmd.Process.Kill()
	<-first.done
	w.endServer()
}

// Without isolation it is the same for the script.
func TestClientPlainRung(t *testing.T) {
	w := makeWorld(t)
	python := w.outsider()
	w.server("--rung", "plain")
	w.write("script.py", `
import cdsw
ws = cdsw.launch_workers(2, 0.2, 0.2, name="w", code="print('hello')")
print(len(cdsw.await_workers(ws)["workers"]), "done")
`)
	out := w.finish(w.plain(python, "script.py"), 2*deadline).ok(t).out
	if strings.Count(out, "] hello\n") != 2 || !strings.HasSuffix(out, "2 done\n") {
		t.Error(out)
	}
}

const clientR = `
library(cdsw)
cat("address", Sys.getenv("CDSW_IP_ADDRESS"), "\n")
launch.workers(n = 1, cpu = 0.2, memory = 0.2, name = "early", kernel = "python3", code = "print('while you are busy')") -> w
while (!file.exists("seen")) sum(1:1000)
w <- launch.workers(n = 2, cpu = 0.2, memory = 0.5, name = "crew", code = "cat(paste('line', 1:50), sep = '\n')")
done <- await.workers(w)
cat("succeeded", length(done$workers), "\n")
w <- launch.workers(n = 1, cpu = 0.2, memory = 0.2, name = "last", kernel = "python3", code = "
import time
for i in range(500): print('last line', i)
open('printed', 'w').close()
time.sleep(4321)")
parallel::mclapply(1:2, function(i) NULL)
while (!file.exists("printed")) sum(1:1000)
cat(paste("the end", list.workers()[[1]]$status, "\n"))
`

// A plain Rscript becomes a session by library(cdsw); so does R at a terminal, where lines appear while nobody types.
func TestClientR(t *testing.T) {
	w := newWorld(t)
	library := w.outsiderR()
	w.write("script.R", clientR)
	before := w.count()
	b := w.begin(w.plain("Rscript", "script.R"))
	b.await("[early] while you are busy")
	w.write("seen", "")
	if code := b.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	out := b.output()
	if !regexp.MustCompile(`(?m)^address 100\.\d+\.\d+\.\d+ $`).MatchString(out) {
		t.Error("its address is not known after library()")
	}
	for text, n := range map[string]int{"[crew": 100, "succeeded 2 \n": 1, "[last] last line": 500, "the end running \n": 1} {
		if got := strings.Count(out, text); got != n {
			t.Errorf("%q is shown %d times, not %d", text, got, n)
		}
	}
	if t.Failed() {
		t.Log(tail(out))
	}

	x := w.terminalOf(50, 100, w.plain("R", "--no-save", "--no-restore", "--quiet"))
	x.sees(">")
	x.typed("library(cdsw); w <- launch.workers(1, 0.2, 0.2, name = 'w', kernel = 'python3', code = 'while True: print(input(), flush=True) if 0 else __import__(\"time\").sleep(0.01) or __import__(\"os\").path.exists(\"go\") and (print(\"now\", flush=True) or __import__(\"time\").sleep(4321))')\r")
	x.seesThat("there is a prompt again", func(rows []string) bool { return len(rows) > 1 && rows[len(rows)-1] == ">" })
	w.write("go", "")
	x.has("[w] now")
	x.typed("\x03\rcat('alive\\n')\r")
	x.sees("alive", ">")
	x.typed("q()\r")
	x.ends(0)
	w.endServer()
	w.nothingLeft(before)
	w.muster("clients", "uninstall", "--r").ok(t)
	if left, _ := os.ReadDir(library); len(left) > 0 {
		t.Errorf("left in the library: %v", left)
	}
}
