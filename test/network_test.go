package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// runs is how often each network example is run in a row: MUSTER_NETWORK_RUNS, by default few enough for make test.
func runs(t *testing.T) int {
	if s := os.Getenv("MUSTER_NETWORK_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 10
}

// copyExample puts an example's files into the world's project, unchanged.
func (w *world) copyExample(name string) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(repo(w.t), "examples", name, "*"))
	if err != nil || len(files) == 0 {
		w.t.Fatalf("no example %s", name)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			w.t.Fatal(err)
		}
		w.write(filepath.Base(f), string(b))
	}
}

// The manual's scripts must not help themselves: no sleep, no retry, no try, nothing imported that hides a race.
func TestNetworkExampleIsPlain(t *testing.T) {
	for _, f := range []string{"master.py", "worker.py", "master.r", "worker.r"} {
		b, err := os.ReadFile(filepath.Join(repo(t), "examples/network", f))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"sleep", "retry", "try", "while", "timeout", "await"} {
			if strings.Contains(strings.ToLower(string(b)), word) {
				t.Errorf("%s contains %q", f, word)
			}
		}
		for _, line := range lines(string(b)) {
			if strings.Contains(line, "import") && !strings.Contains("import cdsw import os import socket import cdsw, socket import os, socket", strings.TrimSpace(line)) {
				t.Errorf("%s imports more than the manual: %s", f, line)
			}
		}
	}
}

// Python: the master accepts one of the two connections and answers it twice at most; that worker prints the answer.
func TestNetworkExamplePython(t *testing.T) {
	w := newWorld(t)
	w.copyExample("network")
	before := w.count()
	start := time.Now()
	for i := range runs(t) {
		r := w.muster("run", "master.py")
		if r.code != 0 || strings.Count(r.out, "Master received:") < 1 || !strings.Contains(r.out, "Worker received:") ||
			strings.Contains(r.out+r.err, "ConnectionRefused") {
			t.Fatalf("run %d: exit code %d\nstdout: %s\nstderr: %s", i+1, r.code, r.out, r.err)
		}
	}
	t.Logf("%d of %d runs right, %v each", runs(t), runs(t), time.Since(start)/time.Duration(runs(t)))
	w.nothingLeft(before)
}

// R: both workers are served, every time.
func TestNetworkExampleR(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	w.copyExample("network")
	before := w.count()
	start := time.Now()
	for i := range runs(t) {
		r := w.muster("run", "master.r")
		if r.code != 0 || strings.Count(r.out, "Server received:") != 2 || strings.Count(r.out, "Worker received:") != 2 ||
			strings.Contains(r.err, "cannot be opened") {
			t.Fatalf("run %d: exit code %d\nstdout: %s\nstderr: %s", i+1, r.code, r.out, r.err)
		}
	}
	t.Logf("%d of %d runs right, %v each", runs(t), runs(t), time.Since(start)/time.Duration(runs(t)))
	w.nothingLeft(before)
}

// A master that binds long after its workers tried to connect loses nothing.
func TestMasterMayBindSecondsLater(t *testing.T) {
	w := newWorld(t)
	w.script(`
import cdsw, socket, time
ws = cdsw.launch_workers(n=2, cpu=0.2, memory=0.2, code="import socket, os; s = socket.create_connection((os.environ['CDSW_MASTER_IP'], 6000)); s.sendall(b'x'); print(s.recv(1))")
time.sleep(2.5)
l = socket.socket(); l.bind(("0.0.0.0", 6000)); l.listen(5)
for _ in range(2):
    c, _ = l.accept(); c.recv(1); c.sendall(b"y")
done = cdsw.await_workers(ws)
assert len(done["workers"]) == 2, done
`).ok(t)
}

// Between workers, and to the master once a worker is old enough, a refusal is a refusal, at once.
func TestOtherRefusalsAreReal(t *testing.T) {
	w := newWorld(t)
	r := w.script(`
import cdsw
a = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="import time; time.sleep(1000)")
ip = cdsw.await_workers(a, wait_for_completion=False)["workers"][0]["ip_address"]
b = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="b", env={"PEER": ip}, code="""
import socket, os
try:
    socket.create_connection((os.environ['PEER'], 6000), timeout=20)
except ConnectionRefusedError:
    print("refused between workers")
""")
cdsw.await_workers(b)
`).ok(t)
	r.has(t, "[b] refused between workers")
}

func TestQueueAndHelloExamples(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	w.copyExample("queue")
	files, _ := filepath.Glob(filepath.Join(w.project, "*.py"))
	if len(files) == 0 {
		t.Fatal("no script in examples/queue")
	}
	w.muster("run", "search.py").ok(t)
	w.copyExample("hello")
	if r := w.muster("run", "hello.py").ok(t); strings.Count(r.out, "hello from") < 2 && strings.Count(strings.ToLower(r.out), "hello") < 2 {
		t.Errorf("hello.py: %s", r.out)
	}
	if r := w.muster("run", "hello.r").ok(t); strings.Count(strings.ToLower(r.out), "hello") < 2 {
		t.Errorf("hello.r: %s", r.out)
	}
}

// Outgoing connections work, although the host forwards nothing, and the host's own services stay out of reach.
func TestHostIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	r := w.script(`
import socket
for host in ("127.0.0.1", "169.254.169.254"):
    try:
        socket.create_connection((host, 22), timeout=10)
        print("reached", host)
    except OSError as e:
        print("no way to", host)
`).ok(t)
	r.has(t, "no way to 127.0.0.1", "no way to 169.254.169.254")
}
