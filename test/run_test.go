package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestPythonWorkersPrintInTheSession(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	r := w.script(`
import cdsw, os
ws = cdsw.launch_workers(n=2, cpu=0.2, memory=0.5, name="twin", code="import os; print('I am', os.environ['CDSW_ENGINE_ID'], os.environ['CDSW_IP_ADDRESS'], os.environ['CDSW_MASTER_IP'])")
assert [x["status"] for x in ws] == ["scheduling", "scheduling"] or all(x["id"] for x in ws), ws
done = cdsw.await_workers(ws)
assert len(done["workers"]) == 2 and not done["failures"], done
print("master", os.environ["CDSW_IP_ADDRESS"], [x["id"] for x in ws])
`).ok(t)
	ids := regexp.MustCompile(`master (\S+) \['(\w{16})', '(\w{16})'\]`).FindStringSubmatch(r.out)
	if ids == nil {
		t.Fatalf("no master line in %s", r.out)
	}
	for _, id := range ids[2:] {
		// The second worker of a name is told apart by its id.
		line := regexp.MustCompile(`(?m)^\[twin(?: ` + id[:4] + `)?\] I am ` + id + ` (\S+) (\S+)$`).FindStringSubmatch(r.out)
		if line == nil || line[2] != ids[1] || line[1] == ids[1] {
			t.Errorf("line of worker %s is wrong or missing: %q in %s", id, line, r.out)
		}
	}
	w.nothingLeft(before)
}

func TestRWorkersPrintInTheSession(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	before := w.count()
	w.write("session.R", `
library(cdsw)
ws <- launch.workers(n=2, cpu=0.2, memory=0.5, env="", code="cat('I am', Sys.getenv('CDSW_ENGINE_ID'), '\n')")
done <- await.workers(ws)
stopifnot(length(done$workers) == 2, length(done$failures) == 0)
cat("done", sapply(ws, function(w) w$id), "\n")
`)
	r := w.muster("run", "session.R").ok(t)
	ids := regexp.MustCompile(`done (\w{16}) (\w{16})`).FindStringSubmatch(r.out)
	if ids == nil {
		t.Fatalf("no last line in %s", r.out)
	}
	for _, id := range ids[1:] {
		if !strings.Contains(r.out, "["+id[:8]+"] I am "+id) {
			t.Errorf("worker %s did not print: %s", id, r.out)
		}
	}
	w.nothingLeft(before)
}

func TestExitCodeArgumentsStreamsAndInput(t *testing.T) {
	w := newWorld(t)
	w.write("s.py", `
import sys
print("args", sys.argv[1:], __name__, __file__)
print("to stderr", file=sys.stderr)
print("read", sys.stdin.read().upper())
sys.exit(7)
`)
	cmd := w.cmd("run", "s.py", "--flag", "a b")
	cmd.Stdin = strings.NewReader("typed text")
	r := w.finish(cmd, deadline)
	if r.code != 7 {
		t.Errorf("exit code %d, want 7", r.code)
	}
	want := "args ['--flag', 'a b'] __main__ " + filepath.Join(w.project, "s.py") + "\nread TYPED TEXT\n"
	if r.out != want {
		t.Errorf("stdout %q, want %q", r.out, want)
	}
	if !strings.HasPrefix(r.err, "to stderr\n") {
		t.Errorf("stderr %q", r.err)
	}
}

func TestTracebackOfTheUserAlone(t *testing.T) {
	w := newWorld(t)
	r := w.script("def f():\n    raise ValueError('mine')\nf()\n")
	if r.code != 1 {
		t.Errorf("exit code %d", r.code)
	}
	r.has(t, "Traceback (most recent call last)", "raise ValueError('mine')", "ValueError: mine")
	if strings.Contains(r.err, "_runner") {
		t.Errorf("our runner shows in the user's traceback: %s", r.err)
	}
}

func TestCtrlCInterruptsTheScriptAndASecondOneEndsTheSession(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	w.write("s.py", `
import time
def sleep():  # in many pieces: Python misses a signal that comes between its last look and the system call, until that ends
    while True:
        time.sleep(0.05)
try:
    print("sleeping", flush=True)
    sleep()
except KeyboardInterrupt:
    print("interrupted", flush=True)
try:
    sleep()
except KeyboardInterrupt:
    print("never", flush=True)
    sleep()
`)
	b := w.start("run", "s.py")
	b.await("sleeping")
	syscall.Kill(-b.cmd.Process.Pid, syscall.SIGINT)
	b.await("interrupted")
	syscall.Kill(-b.cmd.Process.Pid, syscall.SIGINT)
	if code := b.wait(); code == 0 {
		t.Errorf("exit code 0 after the session was ended")
	}
	w.nothingLeft(before)
}

func TestWorkersSeeTheirOwnWorldOnly(t *testing.T) {
	w := newWorld(t)
	os.WriteFile("/tmp/of-the-host-"+filepath.Base(w.root), nil, 0o600)
	defer os.Remove("/tmp/of-the-host-" + filepath.Base(w.root))
	r := w.script(`
import cdsw, os
code = r'''
import os, socket, subprocess
print("fds", sorted(int(f) for f in os.listdir("/proc/self/fd"))[:-1])
print("pids", sorted(int(p) for p in os.listdir("/proc") if p.isdigit())[0], len([p for p in os.listdir("/proc") if p.isdigit()]))
print("tmp", [f for f in os.listdir("/tmp") if f.startswith("of-the-host")])
print("host", socket.gethostname() == os.environ["CDSW_ENGINE_ID"], socket.gethostbyname(socket.gethostname()) == os.environ["CDSW_IP_ADDRESS"])
print("links", sorted(os.listdir("/sys/class/net")))
st = dict(l.split(":", 1) for l in open("/proc/self/status") if ":" in l)
print("nnp", st["NoNewPrivs"].strip(), "caps", st["CapEff"].strip())
def refused(path, data):
    try:
        open(path, "w").write(data); return False
    except OSError:
        return True
print("ro", refused("/proc/sys/kernel/hostname", "x"), refused("/sys/kernel/mm/ksm/run", "0"), refused("/proc/sysrq-trigger", "h"))
print("cgroup", [d for d, _, _ in os.walk("/sys/fs/cgroup") if os.access(d, os.W_OK)])
print("dev", [d for d in os.listdir("/dev") if d in ("vda", "sda", "kvm", "mem", "loop0", "kmsg")])
print("mknod", subprocess.call(["mknod", "/dev/shm/x", "b", "1", "1"], stderr=subprocess.DEVNULL) != 0)
print("cache", refused(os.path.join(os.path.dirname(os.path.dirname(__import__("cdsw").__file__)), "planted.py"), "x"))
print("mount", subprocess.call(["mount", "-t", "tmpfs", "x", "/mnt"], stderr=subprocess.DEVNULL) != 0)
print("project", os.getcwd() == os.environ["WANT"], os.path.exists("session.py"))
'''
ws = cdsw.launch_workers(n=1, cpu=0.2, memory=0.5, name="w", code=code, env={"WANT": os.getcwd()})
done = cdsw.await_workers(ws)
assert not done["failures"], done
`).ok(t)
	r.has(t,
		"[w] fds [0, 1, 2]\n", "[w] pids 1 2\n", "[w] tmp []\n", "[w] host True True\n", "[w] links ['eth0', 'lo']\n",
		"[w] nnp 1 caps 00000000800405fb\n", "[w] ro True True True\n", "[w] cgroup []\n", "[w] dev []\n", "[w] mknod True\n",
		"[w] mount True\n", "[w] cache True\n", "[w] project True True\n")
}

func TestPrintAppearsWhileTheWorkerStillRuns(t *testing.T) {
	w := newWorld(t)
	w.write("session.py", `
import cdsw
ws = cdsw.launch_workers(n=1, cpu=0.2, memory=0.5, name="w", code="""
import time
print("first line")
print("no newline yet", end="")
time.sleep(1000)
""")
cdsw.await_workers(ws, timeout_seconds=0)
`)
	b := w.start("run", "session.py")
	b.await("[w] first line\n")
	b.await("[w] no newline yet")
}
