package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTwoHundredWorkersAtOnce(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	up := w.server()
	idle := memoryNow(up.cmd.Process.Pid)
	w.write("session.py", `
import cdsw, sys, time
t0 = time.time()
ws = cdsw.launch_workers(n=200, cpu=0.01, memory=0.05, code="import os, sys; print('here', flush=True); [0 for _ in iter(lambda: os.path.exists('go') or __import__('time').sleep(0.2), True)]")
t1 = time.time()
up = cdsw.await_workers(ws, wait_for_completion=False, timeout_seconds=0)
t2 = time.time()
assert len(up["workers"]) == 200, (len(up["workers"]), up["failures"][:2])
listed = [x["id"] for x in cdsw.list_workers()]
t3 = time.time()
assert listed == [x["id"] for x in reversed(ws)], "newest first"
assert len({x["ip_address"] for x in up["workers"]}) == 200
print("200 up", flush=True)
sys.stdin.readline()
t4 = time.time()
open("go", "w").close()
done = cdsw.await_workers(ws, timeout_seconds=0)
assert len(done["workers"]) == 200, done["failures"][:2]
print("launch %.0f ms, all running after %.0f ms, list %.0f ms, all ended %.0f ms after the word" % ((t1-t0)*1e3, (t2-t0)*1e3, (t3-t2)*1e3, (time.time()-t4)*1e3))
`)
	cmd := w.cmd("run", "session.py")
	in, _ := cmd.StdinPipe()
	b := w.begin(cmd)
	b.await("200 up")
	live := memoryNow(up.cmd.Process.Pid)
	t.Logf("server memory: %.1f MB idle, %.1f MB with 200 workers: %.0f kB each", idle, live, (live-idle)*1000/200)
	for _, k := range w.keepers() {
		t.Logf("keeper memory: %.1f MB with 200 workers", memoryNow(k))
	}
	fmt.Fprintln(in)
	in.Close()
	if code := b.wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, tail(b.output()))
	}
	if n := strings.Count(b.output(), "] here"); n != 200 {
		t.Errorf("%d of 200 workers printed", n)
	}
	for _, l := range lines(b.output()) {
		if strings.HasPrefix(l, "launch ") {
			t.Log(l)
		}
	}
	up.cmd.Process.Signal(os.Interrupt)
	up.wait()
	w.emptyState()
	w.nothingLeft(before)
}

// emptyState removes what a server keeps on purpose (the logs of ended sessions), so that counts can be compared.
func (w *world) emptyState() {
	w.t.Helper()
	for _, dir := range []string{"run", "state/sessions"} {
		entries, _ := os.ReadDir(filepath.Join(w.root, dir))
		for _, e := range entries {
			os.RemoveAll(filepath.Join(w.root, dir, e.Name()))
		}
	}
}

// memoryNow is a process's own resident memory in megabytes.
func memoryNow(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	var kb float64
	for _, l := range lines(string(b)) {
		var n float64
		if _, err := fmt.Sscanf(l, "Private_Dirty: %f kB", &n); err == nil {
			kb += n
		}
	}
	return kb / 1000
}

// 200 launches with every kind of end, then nothing is left: no process, cgroup, namespace, link, mount, rule, file, and
// no descriptor or thread more in the server.
func TestNothingLeftAfterTwoHundredLaunches(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	up := w.server()
	round := func(n int) {
		w.script(fmt.Sprintf(`
import cdsw
for i in range(%d):
    ws = cdsw.launch_workers(n=4, cpu=0.1, memory=0.05, code="print(1)")
    ws += cdsw.launch_workers(n=2, cpu=0.1, memory=0.05, code="import sys; sys.exit(3)")
    ws += cdsw.launch_workers(n=1, cpu=0.1, memory=0.05, code="import os, time; os.fork() or os.setsid(); time.sleep(1000)")
    ws += cdsw.launch_workers(n=1, cpu=0.1, memory=0.05, code="b = bytearray(200 * 1000 * 1000)")
    ws += cdsw.launch_workers(n=2, cpu=0.1, memory=0.05, script="not-there.py")
    live = [w for w in ws if "id" in w]
    assert len(live) == 8
    cdsw.await_workers(live[6], wait_for_completion=False)
    cdsw.stop_workers(live[6])
    done = cdsw.await_workers(live)
    assert len(done["workers"]) == 4, done
`, n)).ok(t)
	}
	round(1) // whatever is made once is made now
	fds := descriptors(up.cmd.Process.Pid)
	mid := w.count()
	round(25)
	until(t, "the server's descriptors are back", func() bool { return descriptors(up.cmd.Process.Pid) <= fds })
	now := w.count()
	for _, what := range []string{"processes", "cgroups", "namespaces", "links", "mounts", "nft lines"} {
		if now[what] != mid[what] {
			t.Errorf("%s: %d before 250 launches, %d after", what, mid[what], now[what])
		}
	}
	up.cmd.Process.Signal(os.Interrupt)
	up.wait()
	w.emptyState()
	w.nothingLeft(before)
}

func descriptors(pid int) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries)
}
