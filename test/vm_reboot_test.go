//go:build vm

package test

import (
	"encoding/json"
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

// The machine goes down under a server with sessions, and comes up again: what is left of them, and what is told of them. The
// first half ends with the machine, the second runs after its next start; what they share is on a disk. These run in the
// virtual machine of make test-vm alone.

// promise is what the first half found, for the second.
type promise struct {
	BootID  string
	Session string            // whose console is read
	Workers map[string]string // name to id, of those that run until the end
	Early   string            // a worker that has ended before, with exit code 7
	Gone    string            // a session that has ended before
	Last    map[string]int    // worker to the last line that was seen in its log; empty: the host saw it
}

const promiseFile = "/state/promise.json"

// diskWorld is a world on the disk that outlives a boot; its runtime folder is, as everybody's, in memory.
func diskWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test ends the machine")
	}
	w := &world{t: t, root: "/state/world", project: "/state/world/project"}
	for _, d := range []string{w.project, "/run/world", "/state/world/state/sessions"} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(os.Environ(), "MUSTER_RUNTIME_DIR=/run/world", "MUSTER_STATE_DIR=/state/world/state", "NO_COLOR=1")
	return w
}

// twoLines has two workers that print numbered lines until "hush" is there, and one that has ended. When they hush, or never, it waits.
const twoLines = `
import cdsw, time
early = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="early", code="print('early is done'); raise SystemExit(7)")
cdsw.await_workers(early)
code = '''
import os, time
n = 0
while not os.path.exists("hush"):
    n += 1
    print("line", n, flush=True)
    time.sleep(0.02)
time.sleep(4321)
'''
for name in "one", "two":
    cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name=name, code=code)
print("chatty is up", flush=True)
time.sleep(4321)
`

// described is what the server tells of a session or a worker.
type described struct {
	ID, Name, Status, Reason string
	ExitCode                 *int `json:"exit_code"`
	K8s                      struct{ Message string }
}

type sessionTold struct {
	Session struct {
		ID     string
		Ended  bool
		Engine described
	}
	Workers []described
}

// ps is what the server tells, all of it.
func (w *world) ps() (list []sessionTold) {
	w.t.Helper()
	r := w.muster("ps", "-a", "--json").ok(w.t)
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		w.t.Fatalf("%v: %s", err, r.out)
	}
	return list
}

// TestVMGoesDown is the first half. It does not return: the machine is restarted from inside (muster.end=reboot), or loses its
// power, which the host decides.
func TestVMGoesDown(t *testing.T) {
	w := diskWorld(t)
	w.server()
	w.write("gone.py", "print('gone is done')")
	w.muster("run", "gone.py").ok(t)
	p := promise{BootID: bootID(t), Workers: map[string]string{}, Last: map[string]int{}}
	w.write("chatty.py", twoLines)
	session := w.start("run", "chatty.py")
	session.await("chatty is up")
	for _, s := range w.ps() {
		if s.Session.Ended {
			p.Gone = s.Session.ID
			continue
		}
		p.Session = s.Session.ID
		for _, k := range s.Workers {
			if k.Name == "early" {
				p.Early = k.ID
			} else {
				p.Workers[k.Name] = k.ID
			}
		}
	}
	if p.Session == "" || p.Gone == "" || p.Early == "" || len(p.Workers) != 2 {
		t.Fatalf("ps tells %+v: %s", p, w.muster("ps", "-a", "--json").out)
	}
	for _, id := range p.Workers {
		until(t, "some lines are in the log", func() bool { n, _, _ := w.lastLine(id); return n > 20 })
	}
	reboot := strings.Contains(commandLine(t), "muster.end=reboot")
	if reboot {
		w.write("hush", "")
		for _, id := range p.Workers {
			until(t, "it has hushed", func() bool {
				before, _, _ := w.lastLine(id)
				time.Sleep(time.Second)
				n, _, _ := w.lastLine(id)
				p.Last[id] = n
				return n == before
			})
		}
	}
	b, _ := json.Marshal(p)
	f, err := os.Create(promiseFile)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
	if reboot {
		fmt.Println("guest: reboot -f")
		exec.Command("systemctl", "reboot", "--force").Run()
		time.Sleep(time.Hour)
	}
	for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, id := range p.Workers {
			n, _, _ := w.lastLine(id)
			fmt.Printf("seen: %s %d at %d\n", id, n, time.Now().UnixMilli())
		}
	}
}

func bootID(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func commandLine(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var numbered = regexp.MustCompile(`(?m)^line (\d+)\n`)

// lastLine reads a worker's log as users do. Lines without a gap, or it says where one is missing.
func (w *world) lastLine(id string) (last int, damage string, err error) {
	r := w.muster("logs", id)
	if strings.Contains(r.err, " is damaged at byte ") { // what comes before is shown
		damage = strings.TrimSpace(r.err)
	} else if r.code != 0 {
		return 0, "", fmt.Errorf("exit code %d: %s", r.code, r.err)
	}
	for _, m := range numbered.FindAllStringSubmatch(r.out, -1) {
		n, _ := strconv.Atoi(m[1])
		if n != last+1 {
			return last, damage, fmt.Errorf("line %d follows line %d", n, last)
		}
		last = n
	}
	return last, damage, nil
}

// TestVMIsBack is the second half.
func TestVMIsBack(t *testing.T) {
	w := diskWorld(t)
	var p promise
	b, err := os.ReadFile(promiseFile)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.BootID == bootID(t) {
		t.Fatal("the machine was not restarted")
	}
	server := w.server()
	told := map[string]described{}
	for _, s := range w.ps() {
		if told[s.Session.ID] = s.Session.Engine; !s.Session.Ended {
			t.Errorf("session %s is told as if it went on", s.Session.ID)
		}
		for _, k := range s.Workers {
			told[k.ID] = k
		}
	}
	t.Run("no session is told running", func(t *testing.T) {
		for id, d := range told {
			if d.Status == "running" || d.Status == "starting" || d.Status == "scheduling" {
				t.Errorf("%s (%s) is told %s", id, d.Name, d.Status)
			}
		}
	})
	t.Run("lost with the machine is told, with the reason", func(t *testing.T) {
		lost := map[string]string{"the session": p.Session}
		for name, id := range p.Workers {
			lost[name] = id
		}
		for name, id := range lost {
			d, known := told[id]
			t.Logf("%s: %s | %s: %s", name, d.Status, d.Reason, d.K8s.Message)
			// A machine that goes down in order asks everybody to end first: keepers and engines say so, and that is what is told.
			asked := len(p.Last) > 0 && (d.Status == "stopped" || d.Status == "failed") && d.K8s.Message != ""
			if !known || !asked && (d.Status != "failed" || d.Reason != "node lost" || !strings.Contains(d.K8s.Message, "machine")) {
				t.Errorf("%s is told as %+v", name, d)
			}
		}
	})
	t.Run("what had ended before is told as it was", func(t *testing.T) {
		if d := told[p.Early]; d.Status != "failed" || d.ExitCode == nil || *d.ExitCode != 7 {
			t.Errorf("early: %+v", d)
		}
		if d := told[p.Gone]; d.Status != "succeeded" {
			t.Errorf("gone: %+v", d)
		}
		w.muster("logs", p.Early).ok(t).has(t, "early is done")
		w.muster("logs", p.Gone).ok(t).has(t, "gone is done")
	})
	t.Run("the logs are complete", func(t *testing.T) { w.complete(t, p) })
	t.Run("nothing is left", func(t *testing.T) { w.nothingOf(t, p) })
	t.Run("the next session works", func(t *testing.T) {
		os.Remove(filepath.Join(w.project, "hush"))
		inner := &world{t: t, root: w.root, project: w.project, env: w.env}
		inner.script(`
import cdsw
print(len(cdsw.await_workers(cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="print('again')"))["workers"]))
`).ok(t).has(t, "again")
	})
	if server.cmd.ProcessState != nil {
		t.Errorf("the server ended: %s", server.output())
	}
	t.Logf("the server said: %s", server.output())
}

// complete compares with what was seen: of an orderly restart nothing is missing; a power cut may take the last second. That
// is printed; what is asserted is a bound that only a missing fsync misses.
func (w *world) complete(t *testing.T, p promise) {
	lines := 50.0 // a second of them
	for name, id := range p.Workers {
		last, damage, err := w.lastLine(id)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want, known := p.Last[id]; known {
			if damage != "" {
				t.Errorf("%s: %s", name, damage)
			}
			if last != want {
				t.Errorf("%s: the log ends with line %d, before the restart with line %d", name, last, want)
			}
			continue
		}
		seen := regexp.MustCompile(`muster\.seen=(?:\S*,)?` + id + `:(\d+)`).FindStringSubmatch(commandLine(t))
		if seen == nil {
			t.Fatalf("the host did not tell what it saw of %s: %s", id, commandLine(t))
		}
		want, _ := strconv.Atoi(seen[1])
		t.Logf("%s: seen up to line %d before the power cut, %d are in the log: about %.1f s are missing", name, want, last, float64(want-last)/lines)
		if damage != "" { // the power was cut in the middle of a record, and that is told
			t.Logf("%s: %s", name, damage)
		}
		if float64(want-last) > 5*lines {
			t.Errorf("%s: more than five seconds are missing", name)
		}
	}
}

// nothingOf looks for what the lost sessions could have left: folders, control groups, processes.
func (w *world) nothingOf(t *testing.T, p promise) {
	until(t, "the sessions' folders hold consoles alone", func() bool {
		for _, id := range []string{p.Session, p.Gone} {
			entries, _ := os.ReadDir(filepath.Join(w.root, "state/sessions", id))
			for _, e := range entries {
				if e.Name() == "engines" || strings.HasPrefix(e.Name(), "keeper") || strings.Contains(e.Name(), "lock") || strings.Contains(e.Name(), "sock") {
					return false
				}
			}
		}
		return true
	})
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if strings.Contains(path, p.Session) {
			t.Errorf("a control group is left: %s", path)
		}
		return nil
	})
	if pids := pidsOf(p.Session); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
}
