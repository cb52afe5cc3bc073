package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
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
	w := newAheadWorld(t)
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

// Libraries have the threads that an engine's CPU stands for, although the zygote had one: set by its environment, or by the launch's. Nobody
// starts cold for that, as long as there is a zygote.
func TestForkedThreads(t *testing.T) {
	w := newAheadWorld(t)
	w.forkedPython()
	w.write("threads.py", `
import numpy
import ctypes, glob, os, re
a = numpy.random.rand(700, 700); a @ a
lib = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(numpy.__file__), "..", "numpy.libs", "*openblas*"))[0])
get = [getattr(lib, n) for n in ("scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads", "openblas_get_num_threads64_", "openblas_get_num_threads") if hasattr(lib, n)][0]
print("FORKED" if "fork" in open("/proc/self/cmdline").read().split("\0") else "STARTED", get(), re.search(r"Threads:\s+(\d+)", open("/proc/self/status").read())[1], os.environ["OMP_NUM_THREADS"])
`)
	out := w.script(`
import cdsw, time
def some(n, cpu, **more):
    ws = cdsw.launch_workers(n, cpu=cpu, memory=0.5, script="threads.py", **more)
    assert not cdsw.await_workers(ws)["failures"]
for i in range(3):
    some(1, 0.5, name="cpu 0.5"); time.sleep(2)
some(4, 0.5, name="cpu 0.5")
for n in 1, 4:
    some(n, 2, name="cpu 2")
import sys
print("LATER" if sys.version_info >= (3, 13) else "BEFORE 3.13")
some(1, 2, name="own", env={"OPENBLAS_NUM_THREADS": "1"})
some(1, 2, name="nested", env={"OPENBLAS_NUM_THREADS": "2,1"})
`).ok(t).out
	two := min(2, runtime.NumCPU()) // OpenBLAS starts no more threads than there are cores
	for label, want := range map[string]string{"cpu 0.5": "1 1 1", "cpu 2": fmt.Sprint(two, two, 2), "own": "1 1 2", "nested": fmt.Sprint(two, two, 2)} {
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
		least, most := n, n // the zygote is there, whatever the CPU
		switch label {
		case "cpu 0.5": // there is none at first
			least = 4
		case "cpu 2", "own":
			if strings.Contains(out, "LATER") { // such a Python reads a number of threads itself when it starts
				least = 0
			}
		case "nested": // what OpenBLAS makes of it only OpenBLAS knows
			least, most = 0, 0
		}
		if t.Logf("%s: %d workers, %d of them forked", label, n, forked); n == 0 || forked < least || forked > most {
			t.Errorf("%s: of %d workers %d were forked, want %d to %d", label, n, forked, least, most)
		}
	}
}

// A module that has read or set a number of threads has done that with its own worker's number. Where it has, each number has engines that
// wait for it.
func TestThreadsThatModulesKnow(t *testing.T) {
	for name, one := range map[string]struct {
		module, half, two string // what it is, and what its workers print with half a core and with two
	}{
		"read":  {"import os\nsaid = os.environ['LOKY_MAX_CPU_COUNT']\n", "1 1 1", "2 2 2"},
		"share": {"import os\nsaid = os.environ['CDSW_CPU_MILLICORES']\n", "500 1 1", "2000 2 2"},
		"set":   {"import os\nos.environ['OPENBLAS_NUM_THREADS'] = '1'\nimport numpy\nsaid = 'no'\n", "no 1 1", "no 1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAheadWorld(t)
			w.forkedPython()
			before := w.count()
			w.write("mine.py", one.module)
			w.write("muster.toml", `preload = ["mine"]`)
			w.write("threads.py", `
import mine, ctypes, glob, os, sys
words = open("/proc/self/cmdline").read().split("\0")
how = [w for w in ("fork", "wait", "script") if w in words][0]
number = os.environ["OPENBLAS_NUM_THREADS"]
if "numpy" in sys.modules:
    lib = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(sys.modules["numpy"].__file__), "..", "numpy.libs", "*openblas*"))[0])
    names = "scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads", "openblas_get_num_threads64_", "openblas_get_num_threads"
    number = [getattr(lib, n) for n in names if hasattr(lib, n)][0]()
print("HOW", os.environ["SAID"], how, mine.said, number, os.environ["OMP_NUM_THREADS"])
`)
			out := w.script(`
import cdsw, time
def some(n, cpu):
    ws = cdsw.launch_workers(n, cpu=cpu, memory=0.5, script="threads.py", name="one", env={"SAID": str(cpu)})
    assert not cdsw.await_workers(ws)["failures"]
for i in range(3):
    some(1, 0.5); time.sleep(2)
for n in 1, 1, 4, 1:
    some(n, 2); time.sleep(2)
for i in range(2):
    some(1, 0.5); time.sleep(1)
    some(1, 2); time.sleep(1)
print("END")
`).ok(t).out
			found := regexp.MustCompile(`HOW (\S+) (\w+) (.*)\n`).FindAllStringSubmatch(out, -1)
			var ways []string
			for _, m := range found {
				ways = append(ways, m[1]+" "+m[2])
				if want := map[string]string{"0.5": one.half, "2": one.two}[m[1]]; m[3] != want {
					t.Errorf("cpu %s, %s: %s, want %s", m[1], m[2], m[3], want)
				}
			}
			t.Log(ways)
			if len(ways) != 14 || slices.ContainsFunc(ways[10:], func(way string) bool { return strings.HasSuffix(way, "script") }) {
				t.Errorf("of 14 workers %d printed; those whose number had been launched before were started cold: %v", len(ways), ways)
			}
			w.nothingLeft(before)
		})
	}
}

// A forked worker ends as any: with what it has left in buffers written, its code, its last words, and without copying what it shares
// with its zygote, which would take memory of its own. How Python's ends are met is the client's tests' (test_leave.py).
func TestForkedEnds(t *testing.T) {
	w := newAheadWorld(t)
	w.forkedPython()
	w.write("ends.py", `
import atexit, numpy, os, resource, sys
class Last:
    def __del__(self):
        print("END whole" if finalizing() else "END short", resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
forked = "fork" in open("/proc/self/cmdline").read().split("\0")
print("FORKED" if forked else "STARTED")
finalizing, last, f = sys.is_finalizing, Last(), open("left-%s-%s" % (os.environ["CODE"], os.environ["CDSW_ENGINE_ID"]), "w")
f.write("all of it")
atexit.register(print, "AT EXIT")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
sys.exit(int(os.environ["CODE"]))
`)
	out := w.script(`
import cdsw, time
for code in "0", "3":
    for i in range(3):
        ws = cdsw.launch_workers(2, cpu=0.2, memory=0.3, script="ends.py", env={"CODE": code}, name="code " + code)
        done = cdsw.await_workers(ws)
        print("CODES", code, sorted(x["exit_code"] for x in done["workers"] + done["failures"]))
        time.sleep(2)
`).ok(t).out
	for _, code := range []string{"0", "3"} {
		if n := strings.Count(out, "CODES "+code+" ["+code+", "+code+"]"); n != 3 {
			t.Errorf("exit code %s was told %d times of 3", code, n)
		}
		files, _ := filepath.Glob(filepath.Join(w.project, "left-"+code+"-*"))
		for _, file := range files {
			if b, err := os.ReadFile(file); err != nil || string(b) != "all of it" {
				t.Errorf("%s holds %q (%v)", file, b, err)
			}
		}
		if len(files) != 6 {
			t.Errorf("%d of 6 workers left a file", len(files))
		}
	}
	forked, short := strings.Count(out, "FORKED"), strings.Count(out, "END short")
	if t.Logf("%d workers were forked", forked); forked < 4 || short != forked || strings.Count(out, "END whole") != 12-forked {
		t.Errorf("%d workers were forked, %d ended without taking apart what they share", forked, short)
	}
	if n := strings.Count(out, "AT EXIT"); n != 12 {
		t.Errorf("%d of 12 workers said their last words", n)
	}
	if t.Failed() {
		t.Log(out)
	}
}

// After a burst as many wait for the next one, and those are all taken by it.
func TestForkedBursts(t *testing.T) {
	w := newAheadWorld(t)
	requireRoot(t)
	const burst = 24 // more than would wait of such as are started
	w.write("age.py", `
import os, time
began = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK") # since the machine's start
print("AHEAD" if began < float(os.environ["LAUNCHED"]) - 0.1 else "LATER")
`)
	out := w.script(fmt.Sprintf(`
import cdsw, time
for i in range(2):
    print("BURST", i)
    ws = cdsw.launch_workers(%d, cpu=0.05, memory=0.1, script="age.py", env={"LAUNCHED": str(time.clock_gettime(time.CLOCK_BOOTTIME))})
    assert not cdsw.await_workers(ws)["failures"]
    time.sleep(15)
`, burst)).ok(t).out
	_, second, _ := strings.Cut(out, "BURST 1")
	if n := strings.Count(second, "AHEAD"); n != burst {
		t.Errorf("%d of %d were started ahead: %s", n, burst, tail(out))
	}
}

// In a session's first burst what all import is imported once, and by those that take other engines' places. Where that cannot be, because
// a module leaves a thread behind, all are started.
func TestForkedFirstBurst(t *testing.T) {
	w := newAheadWorld(t)
	requireRoot(t)
	const count = "import os\nopen('imports', 'a').write('%d ' % os.getpid())\n"
	w.write("slow.py", count+"import time\ntime.sleep(0.5)\n")
	w.write("thread.py", count+"import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n")
	for module, want := range map[string]struct{ least, most int }{
		"slow":   {1, 5},
		"thread": {12, 40}, // those that wait then import it, too
	} {
		w.write("muster.toml", fmt.Sprintf("preload = [%q]\n", module))
		w.write("imports", "")
		w.script(fmt.Sprintf(`
import cdsw
done = cdsw.await_workers(cdsw.launch_workers(12, cpu=0.05, memory=0.1, code="import %s"))
assert len(done["workers"]) == 12, done
`, module)).ok(t)
		b, err := os.ReadFile(filepath.Join(w.project, "imports"))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(strings.Fields(string(b))); n < want.least || n > want.most {
			t.Errorf("%s was imported %d times, want from %d to %d", module, n, want.least, want.most)
		}
	}
}

// A zygote that is killed, at whatever moment, harms nobody: who was to be forked is started.
func TestZygoteKilled(t *testing.T) {
	w := newAheadWorld(t)
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
		for _, pid := range zygotes(t) {
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

// A zygote, or a spawner, that is stopped holds nobody up for long, and keeps no session from ending.
func TestForkingStopped(t *testing.T) {
	for name, find := range map[string]func(*testing.T) []int{
		"zygote": zygotes, "spawner": func(t *testing.T) []int { return named(t, "muster-spawner\x00") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newAheadWorld(t)
			requireRoot(t)
			before := w.count()
			cmd := w.cmd("run", w.write("session.py", `
import cdsw, time
def some(n):
    assert not cdsw.await_workers(cdsw.launch_workers(n, cpu=0.2, memory=0.2, code="print('DONE')"))["failures"]
some(1); time.sleep(1.5); some(1); time.sleep(1.5)
print("READY", flush=True)
input()
some(12)
some(4)
`))
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			run := w.begin(cmd)
			run.await("READY\n")
			pids := find(t)
			for _, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			fmt.Fprintln(in)
			if code := run.wait(); code != 0 {
				t.Errorf("exit code %d: %s", code, tail(run.output()))
			}
			if n := strings.Count(run.output(), "DONE\n"); n != 18 || len(pids) == 0 {
				t.Errorf("%d of 18 workers printed, %d processes were stopped: %s", n, len(pids), tail(run.output()))
			}
			w.nothingLeft(before)
		})
	}
}

// A module that leaves something behind which a fork would not have, when it is imported, or says that it has taken work before there is any,
// is imported by each interpreter. People are told, once.
func TestModulesThatCannotBeForked(t *testing.T) {
	told := map[string]string{ // of the others nothing is said
		"a thread": "mine leaves threads behind", "a process": "mine leaves child processes behind", "a daemon": "mine leaves child processes behind",
		"a line": "mine leaves output behind", "a mask": "mine leaves another umask behind", "a folder": "mine leaves another working directory behind",
		"a handler": "mine leaves handlers of signals behind", "a number": "mine leaves numbers drawn from random, or a seed behind",
		"an error": "mine cannot be imported: OSError: no luck", "an id": "mine draws random numbers when it is imported",
	}
	for name, module := range map[string]string{
		"a thread":         "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
		"a process":        "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\n",
		"a daemon":         "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\n",
		"a file":           "import os\nfile = open(os.devnull)\n",
		"a line":           "print('imported')\n",
		"a generator":      "import random\nown = random.Random()\n",
		"a number":         "import random\nown = random.random()\n",
		"an id":            "import uuid\nown = uuid.uuid4()\n",
		"a folder":         "import os\nos.chdir('/')\n",
		"a handler":        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
		"a mask":           "import os\nos.umask(0o77)\n",
		"an error":         "raise OSError('no luck')\n",
		"the end":          "import os, sys\nif 'fork' in sys.orig_argv: os._exit(3)\n",
		"a lie":            "import os\ntry: os.write(os.open('/dev/muster/waits', os.O_WRONLY), b't')\nexcept OSError: pass\n",
		"nothing (forked)": "import json\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newAheadWorld(t)
			requireRoot(t)
			before := w.count()
			w.write("mine.py", module)
			w.write("muster.toml", `preload = ["mine"]`)
			ran := w.script(`
import cdsw, time
for i in range(4):
    ws = cdsw.launch_workers(2, cpu=0.2, memory=0.2, code="""
try: import mine
except OSError as e: print(e)
import os, random
own = getattr(globals().get("mine"), "own", None)
if own: print("DRAW", own.random() if isinstance(own, random.Random) else own)
print("WAS", "fork" in open("/proc/self/cmdline").read())
os._exit(0)
""")
    assert not cdsw.await_workers(ws)["failures"]
    time.sleep(1)
`).ok(t)
			out := ran.out
			if n := strings.Count(ran.err, "muster: preload: "+told[name]); n != min(1, len(told[name])) {
				t.Errorf("people were told %q %d times: %s", told[name], n, tail(ran.err))
			}
			forked, all := strings.Count(out, "WAS True\n"), strings.Count(out, "WAS ")
			if want := strings.Contains(name, "forked") || name == "an error"; all != 8 || (forked > 0) != want {
				t.Errorf("%d of %d workers were forked: %s", forked, all, tail(out))
			}
			if n := strings.Count(out, "imported\n"); name == "a line" && n != 8 {
				t.Errorf("%d of 8 workers said that they imported it: %s", n, tail(out))
			}
			seen := map[string]bool{}
			for line := range strings.Lines(out) {
				if _, draw, found := strings.Cut(line, "DRAW "); found && seen[draw] {
					t.Errorf("two workers drew %s", draw)
				} else if found {
					seen[draw] = true
				}
			}
			w.nothingLeft(before)
		})
	}
}

// Files that are changed are seen by the next worker, whichever of a module's they are, and soon there are forks again. What a module has set of
// the environment when it was imported, is set.
func TestForksAfterChanges(t *testing.T) {
	w := newAheadWorld(t)
	requireRoot(t)
	w.env = append(w.env, "PATH="+filepath.Dir(w.venv())+":"+os.Getenv("PATH"))
	packages, _ := filepath.Glob(filepath.Join(w.root, "venv", "lib", "*", "site-packages"))
	if len(packages) != 1 {
		t.Fatal(packages)
	}
	files := map[string]string{
		"pkg/__init__.py": "from . import sub\nimport dep\n", "pkg/sub.py": "V = 0\n", "dep/__init__.py": "from . import inner\n", "dep/inner.py": "V = 0\n",
	}
	for name, text := range files {
		path := filepath.Join(packages[0], name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	w.write("loc.py", "import os\nV = 0\nos.environ['MODE'] = 'fast'\nos.environ.setdefault('LEVEL', '2')\nos.environ.pop('GONE', None)\n")
	w.write("muster.toml", `preload = ["pkg", "loc"]`)
	out := w.script(fmt.Sprintf(`
import cdsw, os, sys, time
code = """
import dep, loc, os, pkg, subprocess
print("SAW", pkg.sub.V, dep.inner.V, loc.V, os.environ.get("MODE"), os.environ.get("LEVEL"), os.environ.get("GONE"),
      subprocess.getoutput("echo $MODE $LEVEL $GONE"), "fork" if "fork" in open("/proc/self/cmdline").read() else "other")
"""
def saw(**env):
    w = cdsw.launch_workers(1, 0.2, 0.2, code=code, env=env)[0]
    done = cdsw.await_workers(w)
    assert not done["failures"], done
    return cdsw.worker_logs(w["id"]).split()[1:]
def until_forked():
    for i in range(150):
        seen = saw()
        if seen[-1] == "fork": return seen
        time.sleep(0.2)
    sys.exit("none was forked again")
want = [0, 0, 0]
for n, name in enumerate([None, "%[1]s/pkg/sub.py", "%[1]s/dep/inner.py", "loc.py"]):
    if name:
        want[n - 1] = n
        with open(name, "r+") as f: text = f.read(); f.seek(0); f.write(text.replace("V = 0", "V = %%d" %% n))
        print("NEXT", saw()[:3] == list(map(str, want)), flush=True)
    seen = until_forked()
    print("FORKED", seen[:3] == list(map(str, want)), " ".join(seen[3:]), flush=True)
print("OTHER", " ".join(saw(LEVEL="7", GONE="1")[3:-1]), flush=True)
`, packages[0])).ok(t).out
	for line, n := range map[string]int{"NEXT True\n": 3, "FORKED True fast 2 None fast 2 fork\n": 4, "OTHER fast 7 None fast 7\n": 1} {
		if strings.Count(out, line) != n {
			t.Errorf("%q is not there %d times: %s", line, n, tail(out))
		}
	}
}

// A zygote that is killed while it imports is not the last one.
func TestZygoteKilledWhileItImports(t *testing.T) {
	w := newAheadWorld(t)
	requireRoot(t)
	w.write("slow.py", "import sys, time\nif 'fork' in sys.orig_argv: time.sleep(2)\n")
	w.write("muster.toml", `preload = ["slow"]`)
	run := w.start("run", w.write("session.py", `
import cdsw, sys, time
def launch():
    w = cdsw.launch_workers(1, 0.2, 0.2, code="print('fork' in open('/proc/self/cmdline').read())")[0]
    assert not cdsw.await_workers(w)["failures"]
    return "True" in cdsw.worker_logs(w["id"])
launch()
print("LAUNCHED", flush=True)
for i in range(150):
    if launch(): break
    time.sleep(0.2)
else:
    sys.exit("none was forked")
`))
	run.await("LAUNCHED\n")
	until(t, "a zygote imports", func() bool {
		killed := false
		for _, pid := range zygotes(t) {
			killed = syscall.Kill(pid, syscall.SIGKILL) == nil || killed
		}
		return killed
	})
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, tail(run.output()))
	}
}

// hostileModule tries, in the zygote, what its capability would open, and writes down what came of it.
const hostileModule = `
import ctypes, os, sys
if "fork" in sys.orig_argv:
    libc = ctypes.CDLL(None, use_errno=True)
    def call(name, *args):
        if getattr(libc, name)(*args) != -1: return "done"
        return os.strerror(ctypes.get_errno())
    def opened(path, flags):
        try: os.close(os.open(path, flags))
        except OSError as e: return e.strerror
        return "done"
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    found = dict(
        mount=call("mount", b"none", b"/tmp", b"tmpfs", 0, None), umount=call("umount2", b"/proc/sys", 2),
        user=call("unshare", 0x10000000), mounts=call("unshare", 0x20000), processes=call("unshare", 0x20000000), network=call("unshare", 0x40000000),
        next=call("ioctl", own, ctypes.c_ulong(0x800cb70b), ctypes.create_string_buffer(16)), owner=call("ioctl", own, ctypes.c_ulong(0xb701)),
        name=call("sethostname", b"other", 5), root=call("pivot_root", b".", b".") if hasattr(libc, "pivot_root") else call("syscall", 155, b".", b"."),
        sysctl=opened("/proc/sys/kernel/core_pattern", os.O_WRONLY), trigger=opened("/proc/sysrq-trigger", os.O_WRONLY),
        spawner=opened("/proc/1/ns/mnt", os.O_RDONLY), its_root=opened("/proc/1/root", os.O_RDONLY), its_memory=opened("/proc/1/mem", os.O_RDWR),
        trace=call("ptrace", 16, 1, 0, 0), handle=call("open_by_handle_at", -100, None, 0),
    )
    for pid in os.listdir("/proc"):  # its init, and those of engines
        if pid.isdigit() and open("/proc/%s/cmdline" % pid).read().startswith("muster-"):
            found["init " + pid] = opened("/proc/%s/ns/mnt" % pid, os.O_RDONLY)
    with open("found", "w") as f: f.write("".join("%s: %s\n" % item for item in found.items()))
    os.close(own)
`

func TestHostileZygote(t *testing.T) {
	w := newAheadWorld(t)
	requireRoot(t)
	w.write("mine.py", hostileModule)
	w.write("muster.toml", `preload = ["mine"]`)
	w.script(`
import cdsw, time
for i in range(3):
    assert not cdsw.await_workers(cdsw.launch_workers(2, cpu=0.2, memory=0.2, code="0"))["failures"]
    time.sleep(1)
`).ok(t)
	found, err := os.ReadFile(filepath.Join(w.project, "found"))
	if err != nil {
		t.Fatalf("the module was imported by no zygote: %v", err)
	}
	said := lines(string(found))
	for _, line := range said {
		if what, result, _ := strings.Cut(line, ": "); result == "done" {
			t.Errorf("a zygote can: %s", what)
		}
	}
	if t.Logf("%s", found); len(said) < 19 {
		t.Errorf("%d things were tried", len(said))
	}
}

// The spawner's end is that of its engines, which is told as such, and of no other: the session goes on, with engines that are started.
func TestSpawnerKilled(t *testing.T) {
	w := newAheadWorld(t)
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

// zygotes lists those that fork, and not what they have forked: that is in the engine's process namespace.
func zygotes(t *testing.T) (pids []int) {
	t.Helper()
	for _, pid := range named(t, "_runner.py\x00fork\x00") {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // an error: it has ended
		if m := regexp.MustCompile(`NSpid:(\s+\d+)+`).FindString(string(status)); len(strings.Fields(m)) == 3 {
			pids = append(pids, pid)
		}
	}
	return pids
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
