package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// failpoints are the places at which a process is killed, and how often it comes by before. Those of the keeper kill the keeper,
// and with it the session; all others the server.
var failpoints = []struct {
	name    string
	refused bool // the session may not have come to be: whoever asked is told so
}{
	{"create: before place=kill", true},
	{"create: after place=kill", true},
	{"create: after record=kill", true},
	{"create: before reply=kill", true},
	{"store: before commit=kill@3", true},
	{"store: after commit=kill@3", true},
	{"driver: before keeper=kill", true},
	{"driver: after keeper=kill", true},
	{"driver: after network=kill@1", true},
	{"driver: after cgroup=kill@1", true},
	{"driver: before handover=kill@1", true},
	{"driver: after handover=kill@1", true},
	{"launch: before record=kill@1", false},
	{"launch: after record=kill@1", false},
	{"launch: before reply=kill@1", false},
	{"launch: after reply=kill@1", false},
	{"launch: before reply=kill@3", false},
	{"store: before commit=kill@4", false},
	{"store: after commit=kill@4", false},
	{"store: before commit=kill@6", false},
	{"store: after commit=kill@6", false},
	{"start: before driver=kill@1", false},
	{"start: after driver=kill@1", false},
	{"start: after driver=kill@3", false},
	{"driver: after network=kill@2", false},
	{"driver: after cgroup=kill@2", false},
	{"driver: before handover=kill@2", false},
	{"driver: after handover=kill@2", false},
	{"driver: before handover=kill@4", false},
	{"retry: before record=kill", false},
	{"retry: after record=kill", false},
	{"stop: before record=kill", false},
	{"stop: before driver=kill", false},
	{"stop: after driver=kill", false},
	{"end: before record=kill@1", false},
	{"end: after record=kill@1", false},
	{"end: before record=kill@2", false},
	{"end: after record=kill@2", false},
	{"keeper: before log=kill@2", true},
	{"keeper: before init=kill@2", true},
	{"keeper: after init=kill@2", true},
	{"keeper: before exit record=kill@1", true},
	{"keeper: after exit record=kill@1", true},
	{"keeper: after clean=kill@1", true},
}

const failpointScript = `
import cdsw
code = "import os, sys; print('began', flush=True); sys.exit(int(os.environ['CODE']))"
fails = cdsw.launch_workers(1, 0.1, 0.2, code=code, env={"CODE": "3"})
hangs = cdsw.launch_workers(1, 0.1, 0.2, code="import time; print('began', flush=True); time.sleep(4321)")
tried = cdsw.launch_workers(1, 0.1, 0.2, code=code, env={"CODE": "5"}, retries=1)
cdsw.await_workers(hangs, wait_for_completion=False)
cdsw.stop_workers(*[w["id"] for w in hangs])
for name, ws in ("fails", fails), ("hangs", hangs), ("tried", tried):
    done = cdsw.await_workers(ws, timeout_seconds=100)
    for w in done["workers"] + done["failures"]:
        print(name, w["status"], w["exit_code"], w.get("attempt") or 1, flush=True)
print("finished", flush=True)
`

// failingBinary is muster with failpoints, in the keeper that it carries, too.
var failingBinary = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", "failpoints")
	keeper, muster, overlay := filepath.Join(dir, "muster-keeper"), filepath.Join(dir, "muster"), filepath.Join(dir, "overlay.json")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "internal/keeper/embedded/bin/muster-keeper"): keeper}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"-o", keeper, "./cmd/muster-keeper"}, {"-overlay", overlay, "-o", muster, "./cmd/muster"}} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-tags", "failpoints"}, args...)...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return string(out), err
		}
	}
	return muster, nil
})

// Killed at any point of a session's life, a server leaves what the next one goes on with, or nothing; a keeper leaves nothing.
func TestKilledAtEveryPoint(t *testing.T) {
	requireRoot(t)
	failing, err := failingBinary()
	if err != nil {
		t.Fatalf("%v: %s", err, failing)
	}
	for _, p := range failpoints {
		t.Run(p.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("session.py", failpointScript)
			up := w.failing(failing, "MUSTER_FAILPOINTS="+p.name)
			run := w.start("run", "session.py")
			if !strings.HasPrefix(p.name, "keeper") {
				up.diedAt(p.name)
				up = w.failing(failing)
			}
			code := run.wait()
			out := run.output()
			if code != 0 && (!p.refused || !strings.Contains(out, "muster: ")) {
				t.Errorf("exit code %d: %s", code, tail(out))
			}
			if code == 0 {
				began := regexp.MustCompile(`(?m)^\[\w+\] began$`).FindAllString(out, -1)
				slices.Sort(began)
				if len(slices.Compact(slices.Clone(began))) != len(began) || len(began) < 3 || len(began) > 4 {
					t.Errorf("these began: %q", began)
				}
				for _, line := range []string{"\nfails failed 3 1\n", "\nhangs stopped ", "\ntried failed 5 2\n", "\nfinished\n"} {
					if !strings.Contains("\n"+out, line) {
						t.Errorf("%q is missing in %s", line, out)
					}
				}
			}
			w.nothingOfOurs(up)
		})
	}
}

// failing starts a server of the program with failpoints. One program for all servers of a test: it lies where the session's engines
// find it.
func (w *world) failing(program string, env ...string) *background {
	w.t.Helper()
	cmd := w.cmd("up")
	cmd.Path, cmd.Args[0] = program, program
	cmd.Env = append(slices.Clone(w.env), env...)
	b := w.begin(cmd)
	b.await("the server answers at")
	return b
}

// diedAt waits until the program was killed at a failpoint.
func (b *background) diedAt(point string) {
	b.t.Helper()
	b.wait()
	name, _, _ := strings.Cut(point, "=")
	if !strings.Contains(b.output(), "killed at \""+name+"\"") {
		b.t.Fatalf("it was not killed there: %s", b.output())
	}
}

// givingFailpoints are on the way of work to an engine that was started ahead of it, and of making such an engine.
var givingFailpoints = []string{
	"driver: before give=kill@1", "driver: after give=kill@1", "driver: after give=kill@2", "launch: before record=kill@3", "launch: after reply=kill@3",
	"driver: before handover=kill@3", "driver: after handover=kill@3", "keeper: after claim=kill@1", "keeper: after give=kill@1",
	"init: before work=kill@1", "init: after work=kill@1",
}

// givingScript launches until one of its workers has met what kills, and then some more. Each engine says that it began; one that was
// begun twice would say so twice.
const givingScript = `
import cdsw, os, time
ids = []
while not os.path.exists("enough") or len(ids) < 6:
    ws = cdsw.launch_workers(2, 0.1, 0.2, code="print('began', flush=True)")
    ids += [w["id"] for w in ws]
    for w in cdsw.await_workers(ws, timeout_seconds=100)["failures"]:
        print("its init was killed:", w["k8s"]["message"], flush=True)
    time.sleep(0.1)
done = cdsw.await_workers(ids, timeout_seconds=100)
print("succeeded", len(done["workers"]), "of", len(set(ids)), [(w["status"], w["k8s"]["message"]) for w in done["failures"]], flush=True)
`

// Killed while it gives work to an engine that waits for it, a server has given it or not: the next one has the worker run, once. With a
// keeper all of it ends, with an init its worker, which is told.
func TestKilledWhileWorkIsGiven(t *testing.T) {
	requireRoot(t)
	program, err := failingBinary()
	if err != nil {
		t.Fatalf("%v: %s", err, program)
	}
	for _, point := range givingFailpoints {
		t.Run(point, func(t *testing.T) {
			w := newAheadWorld(t)
			script := givingScript
			if strings.HasPrefix(point, "init:") { // it hands over what is large
				script = strings.Replace(script, "flush=True)\"", "flush=True)#\" + \"x\" * 40000", 1)
			}
			w.write("session.py", script)
			up := w.failing(program, "MUSTER_FAILPOINTS="+point)
			run := w.start("run", "session.py")
			who, _, _ := strings.Cut(point, ":")
			switch who {
			case "keeper":
				if code := run.wait(); code == 0 || !strings.Contains(run.output(), "muster: ") {
					t.Errorf("exit code %d: %s", code, tail(run.output()))
				}
				w.nothingOfOurs(up)
				return
			case "init":
				until(t, "an init was killed", func() bool { return strings.Contains(run.output(), "init was killed") })
			default:
				up.diedAt(point)
				up = w.failing(program)
			}
			w.write("enough", "")
			if code := run.wait(); code != 0 {
				t.Errorf("exit code %d: %s", code, tail(run.output()))
			}
			checkGiven(t, run.output(), who == "init")
			w.nothingOfOurs(up)
		})
	}
}

// checkGiven reports workers that did not do their work once; or, where inits were killed, at most once, and all are told of.
func checkGiven(t *testing.T, out string, killed bool) {
	t.Helper()
	end := regexp.MustCompile(`succeeded (\d+) of (\d+) (.*)`).FindStringSubmatch(out)
	if end == nil || (end[1] != end[2]) != killed {
		t.Fatalf("not all have done their work: %q\n%s", end, tail(out))
	}
	began := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\[(\w+)\] began$`).FindAllStringSubmatch(out, -1) {
		began[m[1]]++
	}
	for id, n := range began {
		if n != 1 {
			t.Errorf("%s began %d times", id, n)
		}
	}
	if fmt.Sprint(len(began)) != end[2] && !killed {
		t.Errorf("%d began, %s were launched", len(began), end[2])
	}
}

// endingFailpoints are on the way of a session's end that is asked for.
var endingFailpoints = []string{
	"session end: before driver=kill", "session end: after driver=kill", "end: before record=kill@1", "end: after record=kill@1", "keeper: before end=kill",
}

// Killed while a session is ended, server and keeper leave nothing; asking the next server again is no mistake.
func TestKilledWhileASessionEnds(t *testing.T) {
	requireRoot(t)
	program, err := failingBinary()
	if err != nil {
		t.Fatalf("%v: %s", err, program)
	}
	for _, point := range endingFailpoints {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			w.write("session.py", `
import cdsw, time
ws = cdsw.launch_workers(2, 0.1, 0.2, code="print('began', flush=True)\nimport time; time.sleep(4321)")
cdsw.await_workers(ws, wait_for_completion=False)
print("all run", flush=True)
time.sleep(4321)
`)
			up := w.failing(program, "MUSTER_FAILPOINTS="+point)
			run := w.start("run", "session.py")
			run.await("all run\n")
			until(t, "both began", func() bool { return strings.Count(run.output(), "] began\n") == 2 })
			stop := w.start("stop", "--all")
			if !strings.HasPrefix(point, "keeper") {
				up.diedAt(point)
				up = w.failing(program)
			}
			stop.wait()
			w.muster("stop", "--all")
			if code := run.wait(); code == 0 {
				t.Errorf("exit code %d: %s", code, tail(run.output()))
			}
			w.nothingOfOurs(up)
		})
	}
}

// nothingOfOurs ends the server and counts what is left that is this test's own: others use the machine, too.
func (w *world) nothingOfOurs(up *background) {
	w.t.Helper()
	sessions, _ := filepath.Glob(filepath.Join(w.root, "state", "sessions", "*"))
	until(w.t, "no keeper is left", func() bool { return len(w.keepers()) == 0 })
	up.cmd.Process.Signal(syscall.SIGTERM)
	up.wait()
	until(w.t, "no process is left", func() bool { return len(w.processes()) == 0 })
	var ids []string
	for _, s := range sessions {
		ids = append(ids, filepath.Base(s))
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(path, id) }) {
			w.t.Errorf("left: %s", path)
		}
		return nil
	})
	left, _ := filepath.Glob(filepath.Join(w.root, "run", "*"))
	more, _ := filepath.Glob(filepath.Join(w.root, "run", "*", "*"))
	if left = append(left, more...); len(left) > 0 {
		w.t.Errorf("left: %q", left)
	}
}

// processes are those that have to do with this world: by their command, their environment or a file that they hold.
func (w *world) processes() (found []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if d == fmt.Sprint("/proc/", os.Getpid()) {
			continue
		}
		cmdline, _ := os.ReadFile(d + "/cmdline")
		environ, _ := os.ReadFile(d + "/environ")
		if bytes.Contains(cmdline, []byte(w.root)) || bytes.Contains(environ, []byte(w.root)) {
			found = append(found, d+" "+string(cmdline))
		}
	}
	return found
}

// What people are given has no failpoints.
func TestNoFailpointsInTheProgram(t *testing.T) {
	program, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := os.ReadFile(filepath.Join(repo(t), "internal/keeper/embedded/bin/muster-keeper"))
	if err != nil {
		t.Fatal(err)
	}
	failing, err := failingBinary()
	if err != nil {
		t.Fatalf("%v: %s", err, failing)
	}
	other, err := os.ReadFile(failing)
	if err != nil {
		t.Fatal(err)
	}
	points := append(slices.Concat(endingFailpoints, givingFailpoints), "MUSTER_FAILPOINTS=")
	for _, p := range failpoints {
		points = append(points, p.name)
	}
	for _, p := range points {
		name, _, _ := strings.Cut(p, "=")
		if bytes.Contains(program, []byte(name)) || bytes.Contains(keeper, []byte(name)) {
			t.Errorf("%q is in the program", name)
		}
		if !bytes.Contains(other, []byte(name)) {
			t.Errorf("%q is not in the program with failpoints: this test sees nothing", name)
		}
	}
}
