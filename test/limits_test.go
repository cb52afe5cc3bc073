package test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A worker that allocates more than its memory fails with the reason; its siblings and the server are unharmed.
func TestOutOfMemory(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	r := w.script(`
import cdsw, json
calm = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="calm", code="import time; time.sleep(1.5); print('calm is fine')")
hog = cdsw.launch_workers(n=1, cpu=0.5, memory=0.2, name="hog", code="b = bytearray(1000 * 1000 * 1000); print('unreachable')")
child = cdsw.launch_workers(n=1, cpu=0.5, memory=0.2, name="child", code="""
import subprocess, sys, time
subprocess.call([sys.executable, "-c", "b = bytearray(1000 * 1000 * 1000)"])
time.sleep(1000)
""")
f = cdsw.await_workers(hog + child)["failures"]
assert len(f) == 2, f
for x in f:
    print(x["name"], x["status"], x["oomKilled"], x["exit_code"], x["reason"], x["evidence"]["memory_limit_bytes"], x["evidence"]["memory_peak_bytes"] > 150e6, x["k8s"]["message"])
assert len(cdsw.await_workers(calm)["workers"]) == 1
`).ok(t)
	for _, name := range []string{"hog", "child"} {
		if !regexp.MustCompile(name + ` failed True 137 out of memory 200000000 True out of memory: limit 200 MB, peak \d+`).MatchString(r.out) {
			t.Errorf("%s is not told as out of memory: %s", name, r.out)
		}
	}
	r.has(t, "[calm] calm is fine", "muster: ")
	w.nothingLeft(before)
}

// cpu 0.5 against 1.0, both confined to one core, get 1 : 2 CPU seconds within 10 %.
func TestCPUIsAShareByDefault(t *testing.T) {
	w := newWorld(t)
	r := w.script(`
import cdsw, time
code = """
import os, time
os.sched_setaffinity(0, {0})
while not os.path.exists("go"): time.sleep(0.001)
t = time.process_time()
end = float(open("go").read())
while time.time() < end: pass
print("used", time.process_time() - t)
"""
a = cdsw.launch_workers(n=1, cpu=0.5, memory=0.2, name="half", code=code)
b = cdsw.launch_workers(n=1, cpu=1.0, memory=0.2, name="one", code=code)
cdsw.await_workers(a + b, wait_for_completion=False)
open("go.new", "w").write(str(time.time() + 6))
import os; os.rename("go.new", "go")
assert not cdsw.await_workers(a + b)["failures"]
`).ok(t)
	used := map[string]float64{}
	for _, m := range regexp.MustCompile(`\[(\w+)\] used ([\d.]+)`).FindAllStringSubmatch(r.out, -1) {
		used[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	ratio := used["half"] / used["one"]
	t.Logf("half %.2f s, one %.2f s: 1 : %.2f", used["half"], used["one"], 1/ratio)
	if ratio < 0.45 || ratio > 0.55 {
		t.Errorf("CPU seconds are 1 : %.2f, want 1 : 2 within 10 %%", 1/ratio)
	}
}

// With the hard setting an idle machine gives no more than asked.
func TestHardCPU(t *testing.T) {
	w := newWorld(t)
	r := w.script(`
import cdsw
ws = cdsw.launch_workers(n=1, cpu=0.3, memory=0.2, name="w", code="""
import time
w, c = time.time(), time.process_time()
while time.time() < w + 3: pass
print("share", (time.process_time() - c) / (time.time() - w))
""")
assert not cdsw.await_workers(ws)["failures"]
`, "--hard-cpu").ok(t)
	m := regexp.MustCompile(`share ([\d.]+)`).FindStringSubmatch(r.out)
	share, _ := strconv.ParseFloat(m[1], 64)
	t.Logf("asked 0.3, got %.3f of a core", share)
	if share > 0.35 {
		t.Errorf("got %.3f of a core, asked for 0.3", share)
	}
}

// In share mode an idle machine gives what is there, and asking for more than there is only says so.
func TestShareNeitherCapsNorDelays(t *testing.T) {
	w := newWorld(t)
	r := w.script(`
import cdsw
ws = cdsw.launch_workers(n=4, cpu=1, memory=0.1, name="w", code="""
import time, os
w, c = time.time(), time.process_time()
while time.time() < w + 0.5: pass
print("ran", os.environ["OMP_NUM_THREADS"])
""")
up = cdsw.await_workers(ws, wait_for_completion=False)
assert len(up["workers"]) == 4, up
assert not cdsw.await_workers(ws)["failures"]
`).ok(t)
	if strings.Count(r.out, "] ran 1") != 4 {
		t.Errorf("four ranks: %s", r.out)
	}
}

// What does not fit now waits in order, with a reason, and starts when there is room.
func TestWaitingSaysForWhat(t *testing.T) {
	w := newWorld(t)
	w.server("--memory-capacity", "1")
	r := w.script(`
import cdsw
a = cdsw.launch_workers(n=1, cpu=0.1, memory=0.8, name="a", code="import time; time.sleep(1); print('a done')")
b = cdsw.launch_workers(n=1, cpu=0.1, memory=0.5, name="b", code="print('b runs')")
d = [x for x in cdsw.list_workers() if x["id"] == b[0]["id"]][0]
print("b is", d["status"], "|", d["k8s"]["reason"], "|", d["k8s"]["message"])
never = cdsw.launch_workers(n=1, cpu=0.1, memory=64, code="1")
print("never", "id" in never[0], never[0]["message"], never[0]["k8sMessage"] is not None)
assert not cdsw.await_workers(a + b)["failures"]
`).ok(t)
	r.has(t, "b is scheduling | Unschedulable | waits for ", "[b] b runs", "never False ", "64 GB")
	if strings.Index(r.out, "[a] a done") > strings.Index(r.out, "[b] b runs") {
		t.Errorf("b ran before a made room: %s", r.out)
	}
}

// GPUs are exclusive; 0 asked means none visible. The inventory comes from the configuration, with device nodes that exist.
func TestGPUsAreExclusive(t *testing.T) {
	w := newWorld(t)
	w.write("gpus.json", `[{"index":0,"uuid":"GPU-a","nodes":["/dev/loop0"]},{"index":1,"uuid":"GPU-b","nodes":["/dev/loop1"]}]`)
	w.server("--gpus", "gpus.json")
	r := w.script(`
import cdsw
code = """
import os, time
print("sees", sorted(d for d in os.listdir("/dev") if d.startswith("loop")), repr(os.environ["CUDA_VISIBLE_DEVICES"]), os.environ["NVIDIA_VISIBLE_DEVICES"])
time.sleep(float(os.environ["STAY"]))
"""
none = cdsw.launch_workers(n=1, cpu=0.1, memory=0.1, name="none", code=code, env={"STAY": 0})
two = cdsw.launch_workers(n=2, cpu=0.1, memory=0.1, nvidia_gpu=1, name="one", code=code, env={"STAY": 1})
late = cdsw.launch_workers(n=1, cpu=0.1, memory=0.1, nvidia_gpu=2, name="late", code=code, env={"STAY": 0})
never = cdsw.launch_workers(n=1, cpu=0.1, memory=0.1, nvidia_gpu=3, code=code)
print("never", "id" in never[0], never[0]["message"])
assert not cdsw.await_workers(none + two + late)["failures"]
`).ok(t)
	r.has(t, "[none] sees [] ", "[late] sees ['loop0', 'loop1']", "never False ")
	for _, device := range []string{"loop0", "loop1"} { // the second worker of a name is told apart by its id
		if n := len(regexp.MustCompile(`(?m)^\[one(?: \w{4})?\] sees \['`+device+`'\] `).FindAllString(r.out, -1)); n != 1 {
			t.Errorf("%s is seen by %d of the workers that asked for one: %s", device, n, r.out)
		}
	}
}
