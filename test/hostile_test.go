package test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// neighbour is a server, and a session on it that minds its own business while another one attacks.
type neighbour struct {
	*world
	server *background
	calm   *background
}

func newNeighbour(t *testing.T, files ...*os.File) *neighbour {
	t.Helper()
	w := newWorld(t)
	cmd := w.cmd("up")
	cmd.ExtraFiles = files // left open by whoever started it
	n := &neighbour{world: w, server: w.begin(cmd)}
	n.server.await("the server answers at")
	w.write("calm.py", `
import cdsw, time
(one,) = cdsw.launch_workers(1, cpu=0.3, memory=0.2, name="calm", code='''
import os, time
print("address", os.environ["CDSW_IP_ADDRESS"])
n = 0
while True:
    print("tick", n, flush=True)
    n += 1
    time.sleep(0.2)
''')
time.sleep(1000)
`)
	n.calm = w.start("run", "calm.py")
	n.calm.await("tick 0")
	return n
}

var tick = regexp.MustCompile(`tick (\d+)\n`)

func (n *neighbour) ticks() int {
	all := tick.FindAllStringSubmatch(n.calm.output(), -1)
	last, _ := strconv.Atoi(all[len(all)-1][1])
	return last
}

// unharmed fails the test unless the neighbour prints on, the server answers, and a new session can launch a worker.
func (n *neighbour) unharmed() {
	n.t.Helper()
	was := n.ticks()
	until(n.t, "the neighbour prints on", func() bool { return n.ticks() > was+1 })
	n.muster("ps").ok(n.t).has(n.t, "calm")
	n.muster("run", "-c", `
import cdsw
ws = cdsw.launch_workers(1, cpu=0.3, memory=0.2, code="print('as ' + 'ever')")
assert len(cdsw.await_workers(ws)["workers"]) == 1
`).ok(n.t).has(n.t, "as ever")
}

var attempt = regexp.MustCompile(`(?m)^(?:\[\w+\] )?([^:\n]+): (refused|DONE|BROKEN) (.*)$`)

// judged checks what testdata/escape.py printed.
func judged(t *testing.T, where, out string) {
	t.Helper()
	all := attempt.FindAllStringSubmatch(out, -1)
	for _, m := range all {
		if m[2] != "refused" {
			t.Errorf("%s: %s", where, m[0])
		}
	}
	if want := fmt.Sprintf("tried %d\n", len(all)); len(all) < 80 || !strings.Contains(out, want) {
		t.Errorf("%s: %d attacks told how they went:\n%s", where, len(all), tail(out))
	}
}

// Everything that an engine must not be able to do is tried by a session, a worker and a session of ssh into the worker.
func TestEscapes(t *testing.T) {
	requireSSH(t)
	leaked, err := os.Open("/etc/hostname")
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	n := newNeighbour(t, leaked, leaked)
	program, env := escapeProgram(t)
	n.write("escape.py", program)
	if err := syscall.Mknod(filepath.Join(n.project, "node"), syscall.S_IFCHR|0o666, 1<<8|9); err != nil { // urandom
		t.Fatal(err)
	}
	outside, err := os.MkdirTemp("/tmp", "muster-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outside)
	secret, socket := filepath.Join(outside, "secret"), "/run/"+filepath.Base(outside)+".sock"
	l, err := net.Listen("unix", socket)
	if err = errors.Join(err, os.WriteFile(secret, []byte("secret"), 0o644)); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n.env = append(n.env, env(secret, socket, filepath.Join(n.root, "run", "server.sock"), filepath.Join(n.root, "run"),
		filepath.Join(n.root, "state", "sessions"))...)
	r := n.muster("run", "escape.py").ok(t)
	judged(t, "a session", r.out)
	r = n.script(`
import cdsw, subprocess
(w,) = cdsw.launch_workers(1, cpu=0.5, memory=0.5, name="thief", script="escape.py", env={"STAY": "1"})
cdsw.await_workers([w["id"]], wait_for_completion=False)
ssh = subprocess.run(["ssh", w["ip_address"], "STAY= python3 escape.py"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
open("ssh.out", "w").write(ssh.stdout + ssh.stderr)
open("go", "w").close()
assert len(cdsw.await_workers([w["id"]])["workers"]) == 1
`).ok(t)
	judged(t, "a worker", r.out)
	out, _ := os.ReadFile(filepath.Join(n.project, "ssh.out"))
	judged(t, "a session of ssh", string(out))
	n.unharmed()
}

// A kernel of the project's own may be a script whose interpreter is /proc/self/exe. When the kernel starts that, it is the
// init's program: it runs with the engine's rights, knows that it was not called for, and is not changed by it.
func TestKernelIsTheInitItself(t *testing.T) {
	n := newNeighbour(t)
	keeper, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", n.keepers()[0]))
	if err != nil {
		t.Fatal(err)
	}
	n.write("muster.toml", "[kernels.again]\ncommand = \"./again\"\n")
	if err := os.WriteFile(filepath.Join(n.project, "again"), []byte("#!/proc/self/exe\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	sum := func() string {
		b, err := os.ReadFile(keeper)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	before := sum()
	r := n.script(`
import cdsw, os
ws = cdsw.launch_workers(1, cpu=0.2, memory=0.2, kernel="again", code="1")
for f in cdsw.await_workers(ws)["failures"]:
    print("failed", f["exit_code"], f["reason"])
path = ` + strconv.Quote(keeper) + `
for how in ("r+b", "wb", "ab"):
    try:
        open(path, how)
        print("OPENED", path)
    except OSError as e:
        print("not opened:", e.strerror)
try:
    os.rename(path, path + ".old")
    print("RENAMED")
except OSError as e:
    print("not renamed:", e.strerror)
`).ok(t)
	r.has(t, "failed 2 ", "muster-keeper: started by muster itself", "not opened: Read-only file system", "not renamed: ")
	r.hasNone(t, "OPENED")
	r.hasNone(t, "RENAMED")
	if after := sum(); after != before {
		t.Errorf("the keeper was %s, is %s", before, after)
	}
	n.unharmed()
}
