package test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// peakMemory reads the largest resident size that a process ever had, in megabytes.
func peakMemory(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		return 0
	}
	kb, _ := strconv.ParseFloat(string(m[1]), 64)
	return kb / 1000
}

// A session stays up after its workers so that memory can be read and logs compared.
const waitForEnd = `
print("workers are done", flush=True)
sys.stdin.readline()
`

// rawLog compares what the server kept of a worker with a digest that the worker computed itself.
func (w *world) rawLog(t *testing.T, id, want string) {
	t.Helper()
	cmd := w.cmd("logs", id)
	h := sha256.New()
	cmd.Stdout = h
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
		t.Errorf("log of %s: digest %s, the worker wrote %s", id, got, want)
	}
}

func TestOneGigabyteOfOutput(t *testing.T) {
	w := newWorld(t)
	up := w.server()
	w.write("session.py", `
import cdsw, sys
ws = cdsw.launch_workers(n=1, cpu=1, memory=0.5, name="big", code='''
import hashlib, os, sys
block = (b"x" * 103 + b"\\n") * 10000
h = hashlib.sha256()
left = 104 * 9615384 # whole lines: 1 GB
while left > 0:
    piece = block[:left]
    sys.stdout.buffer.write(piece)
    h.update(piece); left -= len(piece)
sys.stdout.flush()
open("digest", "w").write(h.hexdigest())
''')
assert not cdsw.await_workers(ws, timeout_seconds=0)["failures"]
print("id", ws[0]["id"])
`+waitForEnd)
	cmd := w.cmd("run", "session.py")
	out, err := os.Create(filepath.Join(w.root, "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, _ := cmd.StdinPipe()
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until4(t, "the console is complete", func() bool {
		b, _ := exec.Command("tail", "-c", "200", out.Name()).Output()
		return strings.Contains(string(b), "workers are done")
	})
	took := time.Since(start)
	digest, _ := os.ReadFile(filepath.Join(w.project, "digest"))
	tailed, _ := exec.Command("tail", "-c", "200", out.Name()).Output()
	id := regexp.MustCompile(`id (\w{16})`).FindSubmatch(tailed)
	if id == nil {
		t.Fatalf("no id in %s", tailed)
	}
	w.rawLog(t, string(id[1]), string(digest))
	t.Logf("1 GB in %v with a following reader; peak memory: server %.0f MB, keeper %.0f MB", took.Round(1e7), peakMemory(up.cmd.Process.Pid), peakMemory(w.keepers()[0]))
	if m := peakMemory(up.cmd.Process.Pid); m > 200 {
		t.Errorf("the server's memory grew to %.0f MB", m)
	}
	in.Close()
	cmd.Wait()
	shown, err := exec.Command("sh", "-c", "grep -a '^\\[big\\] x' "+out.Name()+" | cut -c7- | sha256sum").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(shown), string(digest)) {
		t.Errorf("the followed console is not what the worker wrote: %s, want %s", shown, digest)
	}
}

// until4 is until for what moves a gigabyte on a busy machine.
func until4(t *testing.T, what string, cond func() bool) {
	t.Helper()
	end := time.Now().Add(10 * deadline)
	for !cond() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, 10*deadline)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestFiftyChattyWorkers(t *testing.T) {
	w := newWorld(t)
	up := w.server()
	w.write("session.py", `
import cdsw, sys, json
ws = cdsw.launch_workers(n=50, cpu=0.1, memory=0.1, code='''
import hashlib, os, sys
me = os.environ["CDSW_ENGINE_ID"]
h = hashlib.sha256()
n = i = 0
while n < 5 * 1000 * 1000:
    line = ("%s line %d %s\\n" % (me, i, "y" * (i % 200))).encode()
    sys.stdout.buffer.write(line); h.update(line); n += len(line); i += 1
sys.stdout.flush()
open("digest." + me, "w").write(h.hexdigest())
''')
assert not cdsw.await_workers(ws, timeout_seconds=0)["failures"]
open("ids", "w").write(" ".join(w["id"] for w in ws))
`+waitForEnd)
	cmd := w.cmd("run", "session.py")
	out, _ := os.Create(filepath.Join(w.root, "console"))
	defer out.Close()
	in, _ := cmd.StdinPipe()
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until4(t, "the console is complete", func() bool {
		b, _ := exec.Command("tail", "-c", "200", out.Name()).Output()
		return strings.Contains(string(b), "workers are done")
	})
	took := time.Since(start)
	b, _ := os.ReadFile(filepath.Join(w.project, "ids"))
	ids := strings.Fields(string(b))
	for _, id := range ids {
		digest, _ := os.ReadFile(filepath.Join(w.project, "digest."+id))
		w.rawLog(t, id, string(digest))
	}
	in.Close()
	cmd.Wait()
	for _, id := range ids[:5] { // in the merged console every worker's lines are whole and in order
		digest, _ := os.ReadFile(filepath.Join(w.project, "digest."+id))
		shown, _ := exec.Command("sh", "-c", "grep -a '^\\["+id[:8]+"\\] "+id+"' "+out.Name()+" | cut -c12- | sha256sum").Output()
		if !strings.HasPrefix(string(shown), string(digest)) {
			t.Errorf("worker %s in the console: %s, wrote %s", id, shown, digest)
		}
	}
	t.Logf("%d workers × 5 MB in %v; server's peak memory %.0f MB", len(ids), took.Round(1e7), peakMemory(up.cmd.Process.Pid))
}

// Bytes are bytes: one long line, NULs, broken UTF-8, no final newline.
func TestUnpleasantBytes(t *testing.T) {
	w := newWorld(t)
	up := w.server()
	w.write("session.py", `
import cdsw, sys
codes = ["w(b'z' * (200 * 1000 * 1000))", "w(bytes(range(256)) * 1000)", "w(b'a\\0b\\0\\n' * 999 + b'no newline')", "w(b'\\xff\\xfe half \\xc3'); w(b'\\xa4 whole')"]
ws = []
for c in codes:
    ws += cdsw.launch_workers(n=1, cpu=0.5, memory=0.8, code='''
import hashlib, os, sys
h = hashlib.sha256()
def w(b):
    sys.stdout.buffer.write(b); sys.stdout.flush(); h.update(b)
''' + c + '''
open("digest." + os.environ["CDSW_ENGINE_ID"], "w").write(h.hexdigest())
''')
assert not cdsw.await_workers(ws, timeout_seconds=0)["failures"]
open("ids", "w").write(" ".join(w["id"] for w in ws))
`+waitForEnd)
	cmd := w.cmd("run", "session.py")
	out, _ := os.Create(filepath.Join(w.root, "console"))
	defer out.Close()
	in, _ := cmd.StdinPipe()
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until4(t, "the console is complete", func() bool {
		b, _ := exec.Command("tail", "-c", "200", out.Name()).Output()
		return strings.Contains(string(b), "workers are done")
	})
	b, _ := os.ReadFile(filepath.Join(w.project, "ids"))
	for _, id := range strings.Fields(string(b)) {
		digest, _ := os.ReadFile(filepath.Join(w.project, "digest."+id))
		w.rawLog(t, id, string(digest))
	}
	t.Logf("server's peak memory %.0f MB", peakMemory(up.cmd.Process.Pid))
	if m := peakMemory(up.cmd.Process.Pid); m > 200 {
		t.Errorf("the server's memory grew to %.0f MB", m)
	}
	in.Close()
	cmd.Wait()
}
