package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// bomb builds testdata/bomb.c into the project.
func (w *world) bomb() {
	w.t.Helper()
	out, err := exec.Command("gcc", "-O1", "-static", "-pthread", "-o", filepath.Join(w.project, "bomb"), "testdata/bomb.c").CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: run scripts/need gcc\n%s", err, out)
	}
}

// Whoever takes all there is of something has what is an engine's to have. While it holds that, the others go on; and it is
// stopped like anybody else.
func TestBombs(t *testing.T) {
	n := newNeighbour(t)
	n.bomb()
	for _, what := range []string{"threads", "zombies", "descriptors", "stopped"} {
		t.Run(what, func(t *testing.T) {
			n.t = t
			b := n.start("run", "-c", "import os; os.execv('./bomb', ['bomb', '"+what+"'])")
			t.Log(strings.TrimSpace(b.match(`(no more ` + what + `: \d+.*\n)`)[0]))
			if len(pidsOf("bomb "+what)) == 0 {
				t.Error("the bomb is not seen")
			}
			n.unharmed()
			b.cmd.Process.Signal(syscall.SIGTERM)
			b.wait()
			until(t, "the bomb is gone", func() bool { return len(pidsOf("bomb "+what)) == 0 })
		})
	}
	n.t = t
}

// Two fork bombs at once have half of the machine's numbers, and a worker's is bounded by its memory besides.
func TestForkBombsTogether(t *testing.T) {
	n := newNeighbour(t)
	n.bomb()
	bombs := []*background{}
	for range 2 {
		bombs = append(bombs, n.start("run", "-c", "import os; os.execv('./bomb', ['bomb', 'processes'])"))
	}
	for _, b := range bombs {
		b.await("no more processes")
	}
	n.unharmed()
	n.script(`
import cdsw
w = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="import os; os.execv('./bomb', ['bomb', 'processes'])")
(f,) = cdsw.await_workers(w)["failures"]
print(f["reason"], f["exit_code"], f["k8s"]["message"])
`).ok(t).has(t, "out of memory 137 out of memory: limit 100 MB")
}

// A project without room is its own session's trouble: workers start in it, are told what they met, and nobody else notices.
func TestFullProject(t *testing.T) {
	n := newNeighbour(t)
	for what, options := range map[string]string{"bytes": "size=1m", "files": "size=10m,nr_inodes=40"} {
		t.Run(what, func(t *testing.T) {
			n.t = t
			full := filepath.Join(n.root, what)
			if err := os.Mkdir(full, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("tmpfs", full, "tmpfs", 0, options); err != nil {
				t.Fatal(err)
			}
			defer syscall.Unmount(full, syscall.MNT_DETACH)
			cmd := n.cmd("run", "-c", `
import cdsw
ws = cdsw.launch_workers(2, cpu=0.2, memory=0.2, code="""
import os
try:
    for i in range(100000):
        with open(f"{os.environ['CDSW_ENGINE_ID']}-{i}", "wb") as f: f.write(bytes(100000 if '`+what+`' == 'bytes' else 0))
except OSError as e:
    print("met", e.strerror)
""")
print("first", len(cdsw.await_workers(ws)["workers"]))
ws = cdsw.launch_workers(1, cpu=0.2, memory=0.2, code="print('a late' + 'comer')")
print("second", len(cdsw.await_workers(ws)["workers"]))
`)
			cmd.Dir = full
			n.finish(cmd, 4*deadline).ok(t).has(t, "met No space left on device", "first 2", "a latecomer", "second 1")
			n.unharmed()
		})
	}
	n.t = t
}

// The disk of the logs is full, by an engine's own /tmp: the server answers, says what is the matter to who begins a session,
// those that print wait, and all go on when there is room.
func TestFullStateFolder(t *testing.T) {
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(state, syscall.MNT_DETACH)
	w.server()
	w.write("calm.py", `
import sys
for line in sys.stdin:
    print("heard", line.strip(), flush=True)
`)
	cmd := w.cmd("run", "calm.py")
	in, _ := cmd.StdinPipe()
	calm := w.begin(cmd)
	fmt.Fprintln(in, "one")
	calm.await("heard one")
	w.write("fill.py", `
import os
print("begins", flush=True)
with open("/tmp/all", "wb", buffering=0) as f:
    try:
        while True: f.write(bytes(4096))
    except OSError as e:
        open("full", "w").write(e.strerror)
import time; time.sleep(1000)
`)
	thief := w.start("run", "fill.py")
	until(t, "the disk is full", func() bool {
		b, _ := os.ReadFile(filepath.Join(w.project, "full"))
		return string(b) == "No space left on device"
	})
	w.muster("ps").ok(t).has(t, "calm.py", "fill.py")
	r := w.muster("run", "-c", "print('in' + 'side')")
	t.Logf("a session that begins now: exit code %d: %s%s", r.code, r.out, r.err)
	if !strings.Contains(r.err, "no space left on device") {
		t.Errorf("nothing tells why: %s%s", r.out, r.err)
	}
	fmt.Fprintln(in, "two")
	thief.cmd.Process.Signal(syscall.SIGTERM)
	thief.wait()
	calm.await("heard two")
	in.Close()
	if code := calm.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, calm.output())
	}
	w.muster("run", "-c", "print('in' + 'side')").ok(t).has(t, "inside")
}
