//go:build vm

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The memory of the whole machine is used up. That is done to no machine that others use: these tests run in the virtual one
// of make test-vm alone.

// calm is a session that does its work beside, with two workers, until it is told to stop.
const calm = `
import cdsw, os, time
ws = cdsw.launch_workers(n=2, cpu=0.2, memory=0.2, name="calm", code='''
import os, time
n = 0
while not os.path.exists("stop"):
    n += 1
    print("tick", n, flush=True)
    time.sleep(0.2)
print("calm is fine", flush=True)
''')
assert not cdsw.await_workers(ws, timeout_seconds=600)["failures"]
print("calm session is fine")
`

// hog has no limit: it is a session's own engine. It writes to what it takes, so that the machine must have it.
const hog = `
taken = []
while True:
    taken.append(b"x" * (16 << 20))
`

// machine is a server with a calm session.
func (w *world) calmMachine(flags ...string) (server, session *background) {
	w.t.Helper()
	w.write("calm.py", calm)
	w.write("hog.py", hog)
	server = w.server(flags...)
	session = w.start("run", "calm.py")
	until(w.t, "both calm workers tick", func() bool { return ticks(session) > 4 })
	return server, session
}

var memoryTick = regexp.MustCompile(`(?m)tick \d+$`)

func ticks(b *background) int { return len(memoryTick.FindAllString(b.output(), -1)) }

// stillFine checks that the calm session goes on and ends well, and that its server is the same.
func (w *world) stillFine(server, session *background) {
	w.t.Helper()
	now := ticks(session)
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the calm session: %s\nthe server: %s", tail(session.output()), tail(server.output()))
		}
	}()
	until(w.t, "the calm workers go on", func() bool { return ticks(session) > now+10 })
	w.write("stop", "")
	if code := session.wait(); code != 0 || strings.Count(session.output(), "calm is fine") != 2 {
		w.t.Errorf("the calm session ended with %d: %s", code, tail(session.output()))
	}
	if server.cmd.ProcessState != nil {
		w.t.Errorf("the server ended: %s", server.output())
	}
	w.muster("ps").ok(w.t)
}

var killed = regexp.MustCompile(`Killed process (\d+) \(([^)]*)\).*oom_score_adj:(-?\d+)`)

// kills are the programs that the kernel has killed for memory since it said mark.
func kills(t *testing.T, mark string) (names []string) {
	t.Helper()
	out, err := exec.Command("dmesg").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, news, found := strings.Cut(string(out), mark)
	if !found {
		t.Fatalf("the kernel's log does not have %q", mark)
	}
	for _, m := range killed.FindAllStringSubmatch(news, -1) {
		t.Logf("the kernel killed %s (%s), oom_score_adj %s", m[2], m[1], m[3])
		names = append(names, m[2])
	}
	return names
}

func markKernelLog(t *testing.T) string {
	t.Helper()
	mark := fmt.Sprintf("muster-test-%d-%s", os.Getpid(), t.Name())
	if err := os.WriteFile("/dev/kmsg", []byte(mark+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	return mark
}

func score(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// An engine without a limit takes all there is: it alone is ended, all of it, and the reason is told.
func TestVMMemoryUsedUpByOne(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	mark := markKernelLog(t)
	server, session := w.calmMachine()
	for _, k := range w.keepers() {
		if got := score(t, k); got != -900 {
			t.Errorf("a keeper's oom_score_adj is %d", got)
		}
	}
	if got := score(t, server.cmd.Process.Pid); got != -900 {
		t.Errorf("the server's oom_score_adj is %d", got)
	}
	r := w.finish(w.cmd("run", "hog.py"), 10*deadline)
	if r.code != 137 {
		t.Errorf("exit code %d", r.code)
	}
	r.has(t, "out of memory: the machine's", "memory is used up, peak ")
	t.Logf("told: %s", lines(r.err)[len(lines(r.err))-1])
	w.stillFine(server, session)
	for _, name := range kills(t, mark) {
		if !strings.HasPrefix(name, "python") && name != "exe" { // exe: an engine's init
			t.Errorf("the kernel killed %s", name)
		}
	}
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.wait()
	w.withoutConsoles()
	records, _ := filepath.Glob(filepath.Join(w.root, "state", "muster.db*")) // meant to stay too
	for _, f := range records {
		os.Remove(f)
	}
	w.nothingLeft(before)
}

// Engines that keep to their limits take all there is together: some are ended, each as a whole, and say that it was not their
// limit; the others go on.
func TestVMMemoryUsedUpByTheSum(t *testing.T) {
	w := newWorld(t)
	mark := markKernelLog(t)
	server, session := w.calmMachine("--memory-capacity", "64") // the machine has 1.5
	w.write("sum.py", `
import cdsw, os, time
ws = cdsw.launch_workers(n=5, cpu=0.5, memory=0.6, name="w", code='''
import os, subprocess, sys, time
if os.fork() == 0:
    time.sleep(1000) # goes with the rest
taken = []
for i in range(28):
    taken.append(b"x" * (16 << 20))
print("has it all", flush=True)
while not os.path.exists("enough"):
    time.sleep(0.1)
os._exit(0)
''')
def ended():
    return [d for d in cdsw.list_workers() if d["status"] == "failed"]
while len(ended()) < 2:
    time.sleep(0.1)
deadline = time.time() + 25
while time.time() < deadline and len(ended()) < 4:
    time.sleep(0.1) # let it come to rest
open("enough", "w").close()
done = cdsw.await_workers(ws, timeout_seconds=600)
for x in done["failures"]:
    print("failed", x["reason"], x["oomKilled"], x["exit_code"], "|", x["k8s"]["message"])
print("went on", len(done["workers"]))
`)
	r := w.finish(w.cmd("run", "sum.py"), 10*deadline).ok(t)
	t.Log(r.out)
	told := regexp.MustCompile(`failed out of memory True 137 \| out of memory: the machine's .* limit 600 MB, peak \d`)
	failed := strings.Count(r.out, "failed ")
	if failed == 0 || len(told.FindAllString(r.out, -1)) != failed || strings.Contains(r.out, "went on 0") {
		t.Errorf("%d failed: %s", failed, r.out)
	}
	w.stillFine(server, session)
	for _, name := range kills(t, mark) {
		if !strings.HasPrefix(name, "python") && name != "exe" { // exe: an engine's init
			t.Errorf("the kernel killed %s", name)
		}
	}
}

// On the plain rung nobody counts for an engine, but engines go first there too.
func TestVMMemoryUsedUpOnThePlainRung(t *testing.T) {
	w := makeWorld(t)
	server, session := w.calmMachine("--rung", "plain")
	r := w.finish(w.cmd("run", "hog.py"), 10*deadline)
	if r.code != 137 {
		t.Errorf("exit code %d: %s", r.code, tail(r.err))
	}
	r.has(t, "ended by signal 9 (killed), perhaps for want of memory")
	t.Logf("told: %s", lines(r.err)[len(lines(r.err))-1])
	w.stillFine(server, session)
}
