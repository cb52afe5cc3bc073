package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// chatty launches workers that print numbered lines, of which the last ends with another exit code, and tells at the end what
// await_workers says of them.
const chatty = `
import cdsw, json
code = '''
import sys, time, os
for i in range(%d):
    print("line", i, flush=True)
    time.sleep(0.01)
sys.exit(int(os.environ["CODE"]))
'''
ids = [cdsw.launch_workers(1, 0.1, 0.2, code=code, env={"CODE": str(n)})[0]["id"] for n in range(%d)]
print("launched", *ids, flush=True)
done = cdsw.await_workers(ids, timeout_seconds=100)
print("codes", *[w["exit_code"] for i in ids for w in done["workers"] + done["failures"] if w["id"] == i], flush=True)
late = cdsw.launch_workers(1, 0.1, 0.2, code="print('late', flush=True)")
print("late ended", len(cdsw.await_workers([w["id"] for w in late])["workers"]), flush=True)
`

const chattyLines, chattyWorkers = 400, 4

var workerLine = regexp.MustCompile(`(?m)^\[([a-z0-9]{8})\] line (\d+)$`)

// whole checks that each worker's lines are all there, once and in order, and how they ended.
func whole(t *testing.T, out string) {
	t.Helper()
	next := map[string]int{}
	for _, m := range workerLine.FindAllStringSubmatch(out, -1) {
		if n, _ := strconv.Atoi(m[2]); n != next[m[1]] {
			t.Errorf("worker %s printed %d where %d was to come", m[1], n, next[m[1]])
		}
		next[m[1]]++
	}
	for id, n := range next {
		if n != chattyLines {
			t.Errorf("%d of %d lines of worker %s are there", n, chattyLines, id)
		}
	}
	if len(next) != chattyWorkers || !strings.Contains(out, "\ncodes 0 1 2 3\n") || !strings.Contains(out, "\nlate ended 1\n") {
		t.Errorf("%d workers printed; output:\n%s", len(next), tail(out))
	}
}

// endsWhole waits for the session, checks what it printed, and ends the server: nothing is left then.
func (w *world) endsWhole(run, server *background, before left) {
	w.t.Helper()
	if code := run.wait(); code != 0 {
		w.t.Errorf("exit code %d", code)
	}
	whole(w.t, run.output())
	server.cmd.Process.Signal(syscall.SIGTERM)
	<-server.done
	w.withoutConsoles()
	w.nothingLeft(before)
}

// The server is killed again and again while a session runs: what is printed, awaited and launched is as if it had not been.
func TestServerKilled(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	up := w.server()
	w.write("session.py", fmt.Sprintf(chatty, chattyLines, chattyWorkers))
	run := w.start("run", "session.py")
	run.await("line 10\n")
	for range 3 {
		up.cmd.Process.Kill()
		<-up.done
		up = w.server()
		if !strings.Contains(up.output(), "adopted 1 session of an earlier server") {
			t.Fatalf("the next server says %q", up.output())
		}
	}
	w.endsWhole(run, up, before)
}

// A server whose records are gone ends nobody: it says what it saw, and the session that runs goes on until somebody asks for new ones.
func TestServerWithoutItsRecords(t *testing.T) {
	w := newWorld(t)
	up := w.server()
	w.write("session.py", "import time\nprint('runs', flush=True)\ntime.sleep(600)\n")
	run := w.start("run", "session.py")
	run.await("runs\n")
	up.cmd.Process.Kill()
	<-up.done
	files, err := filepath.Glob(filepath.Join(w.root, "state", "muster.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if r := w.muster("up"); r.code == 0 || !strings.Contains(r.err, "1 session, of which 1 runs") || !strings.Contains(r.err, "muster up --salvage") {
			t.Fatalf("exit code %d: %s", r.code, r.err)
		}
	}
	if up = w.server("--salvage"); !strings.Contains(up.output(), "ran without a record: it was ended") {
		t.Errorf("with --salvage it says %q", up.output())
	}
	run.wait()
}

// What comes on the session's stdin while its server is killed again and again reaches the script once, and in order.
func TestServerKilledUnderStdin(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	up := w.server()
	w.write("session.py", `
import hashlib, sys, time
seen = hashlib.sha256()
for n, line in enumerate(sys.stdin.buffer):
    seen.update(line)
    if n % 1000 == 0:
        print("line", n, flush=True)
        time.sleep(0.01) # so that it is behind, and its pipe is full
print("sum", seen.hexdigest())
`)
	var all bytes.Buffer
	for n := range 200_000 {
		fmt.Fprintf(&all, "line %d of what is typed\n", n)
	}
	cmd := w.cmd("run", "session.py")
	cmd.Stdin = bytes.NewReader(all.Bytes())
	run := w.begin(cmd)
	run.await("line 1000\n")
	for n := range 3 {
		up.cmd.Process.Kill()
		<-up.done
		up = w.server()
		run.await(fmt.Sprintf("line %d\n", (n+1)*20_000))
	}
	want := fmt.Sprintf("sum %x\n", sha256.Sum256(all.Bytes()))
	if code := run.wait(); code != 0 || !strings.Contains(run.output(), want) {
		t.Errorf("exit code %d, want %q: %s", code, want, tail(run.output()))
	}
	up.cmd.Process.Signal(syscall.SIGTERM)
	<-up.done
	w.withoutConsoles()
	w.nothingLeft(before)
}

// Signals need no server: SIGTERM and SIGHUP end command and session at once, the second Ctrl-C too; the first interrupts the script when
// a server is back.
func TestSignalsWithoutServer(t *testing.T) {
	for _, c := range []struct {
		signals []syscall.Signal
		code    int
		says    string
	}{
		{[]syscall.Signal{syscall.SIGTERM}, 143, "muster: ended by SIGTERM: session "},
		{[]syscall.Signal{syscall.SIGHUP}, 129, "muster: ended by SIGHUP: session "},
		{[]syscall.Signal{syscall.SIGINT, syscall.SIGINT}, 130, "and its workers end with this command"},
		{[]syscall.Signal{syscall.SIGINT}, 130, "KeyboardInterrupt"},
	} {
		t.Run(fmt.Sprint(c.signals), func(t *testing.T) {
			w := newWorld(t)
			before := w.count()
			up := w.server()
			run := w.start("run", "-c", "import time, cdsw; w = cdsw.launch_workers(1, 0.1, 0.2, code='import time; time.sleep(1000)'); cdsw.await_workers(w, wait_for_completion=False); print('up', flush=True); time.sleep(1000)")
			run.await("up\n")
			up.cmd.Process.Kill()
			<-up.done
			run.await("waits for a server")
			for n, sig := range c.signals {
				run.cmd.Process.Signal(sig)
				if n+1 < len(c.signals) || c.says == "KeyboardInterrupt" {
					run.await("the script is interrupted when a server is back; Ctrl-C again ends the session now\n")
				}
			}
			if c.says == "KeyboardInterrupt" {
				w.server()
			}
			if code := run.wait(); code != c.code || !strings.Contains(run.output(), c.says) {
				t.Errorf("exit code %d: %s", code, run.output())
			}
			until(t, "no process of the session is left", func() bool { return w.count()["processes"] <= before["processes"]+1 })
		})
	}
}

// A server takes over from one that runs, as after an upgrade; and one with --keep lets its sessions go on when it is told to end.
func TestServerReplaced(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	first := w.server("--keep")
	w.write("session.py", fmt.Sprintf(chatty, chattyLines, chattyWorkers))
	run := w.start("run", "session.py")
	run.await("line 10\n")
	second := w.start("up", "--replace")
	second.await("adopted 1 session of an earlier server")
	if code := first.wait(); code != 0 {
		t.Errorf("the first server ended with %d: %s", code, first.output())
	}
	second.cmd.Process.Signal(syscall.SIGUSR1)
	if code := second.wait(); code != 0 {
		t.Errorf("the second server ended with %d: %s", code, second.output())
	}
	third := w.server("--keep")
	third.await("adopted 1 session")
	third.cmd.Process.Signal(syscall.SIGTERM)
	third.wait()
	fourth := w.server()
	w.endsWhole(run, fourth, before)
}

// An attached process whose server is killed starts the next one.
func TestServerOfAnAttachedProcessKilled(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	python := w.outsider()
	w.write("session.py", fmt.Sprintf(chatty, chattyLines, chattyWorkers))
	process := w.begin(w.plain(python, "-u", "session.py"))
	process.await("line 10\n")
	for _, pid := range pidsOf("muster up") {
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && strings.Contains(string(env), w.root) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if code := process.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	whole(t, process.output())
	w.serverEnds()
	os.Remove(filepath.Join(w.root, "run", "server.log"))
	w.withoutConsoles()
	w.nothingLeft(before)
}
