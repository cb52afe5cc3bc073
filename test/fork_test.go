package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// forkedPython is a Python with numpy's wheel, before others on the PATH of what w starts.
func (w *world) forkedPython() {
	w.t.Helper()
	requireRoot(w.t)
	w.env = append(w.env, "PATH="+filepath.Dir(pythonWith(w.t, "numpy", "numpy"))+":"+os.Getenv("PATH"))
}

// Of a thousand workers that were forked from one zygote no two draw the same number, whoever makes it.
func TestForkedDrawTheirOwnNumbers(t *testing.T) {
	w := newWorld(t)
	w.forkedPython()
	w.write("draw.py", `
import hashlib, numpy, os, random, ssl, sys, tempfile, uuid
draws = dict(
    random=random.random(), numpy=numpy.random.rand(), generator=numpy.random.default_rng().random(), system=os.urandom(8).hex(),
    ssl=ssl.RAND_bytes(8).hex(), uuid1=str(uuid.uuid1()), uuid4=str(uuid.uuid4()), name=next(tempfile._get_candidate_names()),
)
print("DRAW", "fork" in open("/proc/self/cmdline").read().split("\0"), *("%s=%s" % d for d in draws.items()))
`)
	out := w.script(`
import cdsw, time
def some(n):
    ws = cdsw.launch_workers(n, cpu=0.2, memory=0.2, script="draw.py")
    assert not cdsw.await_workers(ws)["failures"]
some(1); time.sleep(2); some(1); time.sleep(2)
for i in range(20):
    some(50)
`).ok(t).out
	seen, forked := map[string]int{}, 0
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 4 || words[1] != "DRAW" || words[2] != "True" {
			continue
		}
		forked++
		for _, draw := range words[3:] {
			seen[draw]++
			if seen[draw] == 2 {
				t.Errorf("two workers drew %s", draw)
			}
		}
	}
	t.Logf("%d workers that were forked drew %d numbers", forked, len(seen))
	if forked < 990 { // those that were started before there was a zygote
		t.Errorf("%d of 1002 workers were forked: %s", forked, tail(out))
	}
}

// Libraries have the threads that an engine's CPU stands for, although the zygote had one: set by its environment, or by the launch's.
func TestForkedThreads(t *testing.T) {
	w := newWorld(t)
	w.forkedPython()
	w.write("threads.py", `
import numpy
import ctypes, os, re
a = numpy.random.rand(700, 700); a @ a
path = [l.split()[-1] for l in open("/proc/self/maps") if "openblas" in l][0]
lib = ctypes.CDLL(path)
get = [getattr(lib, n) for n in ("scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads", "openblas_get_num_threads") if hasattr(lib, n)][0]
print("FORKED" if "fork" in open("/proc/self/cmdline").read().split("\0") else "STARTED", get(), re.search(r"Threads:\s+(\d+)", open("/proc/self/status").read())[1], os.environ["OMP_NUM_THREADS"])
`)
	out := w.script(`
import cdsw, time
def some(n, cpu, **more):
    ws = cdsw.launch_workers(n, cpu=cpu, memory=0.5, script="threads.py", **more)
    assert not cdsw.await_workers(ws)["failures"]
for cpu in 0.5, 2:
    for i in range(3):
        some(1, cpu, name="cpu %s" % cpu); time.sleep(2)
    some(4, cpu, name="cpu %s" % cpu)
for i in range(3):
    some(1, 2, name="own", env={"OPENBLAS_NUM_THREADS": "1"}); time.sleep(2)
`).ok(t).out
	two := min(2, runtime.NumCPU()) // OpenBLAS starts no more threads than there are cores
	for label, want := range map[string]string{"cpu 0.5": "1 1 1", "cpu 2": fmt.Sprint(two, two, 2), "own": "1 1 2"} {
		n, forked := 0, 0
		for _, m := range regexp.MustCompile(`(?m)^\[`+label+`( \w+)?\] (\w+) (.*)$`).FindAllStringSubmatch(out, -1) {
			n++
			if m[2] == "FORKED" {
				forked++
			}
			if m[3] != want {
				t.Errorf("%s: %s %s, want %s", label, m[2], m[3], want)
			}
		}
		if t.Logf("%s: %d workers, %d of them forked", label, n, forked); forked == 0 {
			t.Errorf("%s: of %d workers none was forked", label, n)
		}
	}
}

// A zygote that is killed, at whatever moment, harms nobody: who was to be forked is started.
func TestZygoteKilled(t *testing.T) {
	w := newWorld(t)
	requireRoot(t)
	before := w.count()
	run := w.start("run", w.write("session.py", `
import cdsw, time
def some(n):
    ws = cdsw.launch_workers(n, cpu=0.2, memory=0.2, code="print('DONE')")
    for f in cdsw.await_workers(ws)["failures"]: print("FAILED", f)
some(1); time.sleep(1); some(1); time.sleep(1)
print("READY", flush=True)
for i in range(30):
    some(10)
print("OVER", flush=True)
time.sleep(1)
`))
	run.await("READY\n")
	killed := 0
	for !strings.Contains(run.output(), "OVER\n") && !run.ended() {
		for _, pid := range named(t, "_runner.py\x00fork\x00") {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if m := regexp.MustCompile(`NSpid:(\s+\d+)+`).FindString(string(status)); len(strings.Fields(m)) != 3 {
				continue // a fork: it is in the engine's process namespace
			}
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
		time.Sleep(7 * time.Millisecond) // so that it is at another point each time
	}
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, tail(run.output()))
	}
	if n := strings.Count(run.output(), "DONE\n"); n != 302 {
		t.Errorf("%d of 302 workers printed: %s", n, tail(run.output()))
	}
	if t.Logf("%d processes of zygotes were killed", killed); killed == 0 {
		t.Error("no zygote was killed")
	}
	w.nothingLeft(before)
}

// The spawner's end is that of its engines, which is told as such, and of no other: the session goes on, with engines that are started.
func TestSpawnerKilled(t *testing.T) {
	w := newWorld(t)
	requireRoot(t)
	before := w.count()
	run := w.start("run", w.write("session.py", `
import cdsw, time
def some(n, code):
    return cdsw.launch_workers(n, cpu=0.2, memory=0.2, code=code)
old = some(1, "import time; time.sleep(1000)")[0]["id"]
time.sleep(2)
def live():
    ws = some(4, "import time; print('FORKED' if 'fork' in open('/proc/self/cmdline').read() else 'STARTED', flush=True); time.sleep(1000)")
    ids = [w["id"] for w in cdsw.await_workers(ws, wait_for_completion=False)["workers"]]
    while not all(cdsw.worker_logs(i) for i in ids): time.sleep(0.01)
    return ids
live()  # some of these may have waited since before there was a zygote
time.sleep(2)
forked = [i for i in live() if "FORKED" in cdsw.worker_logs(i)]
print("READY", len(forked), flush=True)
for f in cdsw.await_workers(forked)["failures"]:
    print("END", f["status"], f["exit_code"], f["k8s"]["message"])
print("OLD", [w["status"] for w in cdsw.list_workers() if w["id"] == old])
for i in range(3):
    assert not cdsw.await_workers(some(2, "print('LATER')"))["failures"]
`))
	run.await("READY 4\n")
	pids := named(t, "muster-spawner\x00")
	if len(pids) != 1 {
		t.Fatalf("spawners: %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for text, n := range map[string]int{"END failed 137 ": 4, "OLD ['running']\n": 1, "LATER\n": 6} {
		if got := strings.Count(run.output(), text); got != n {
			t.Errorf("%q is there %d times, not %d: %s", text, got, n, tail(run.output()))
		}
	}
	w.nothingLeft(before)
}

// named lists the processes whose command line has a text in it.
func named(t *testing.T, text string) (pids []int) {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		said, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(said), text) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
