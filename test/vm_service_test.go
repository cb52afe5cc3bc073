//go:build vm

package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// unit is a server as people run it for a machine, as docs/systemd.md has it.
const unit = `[Service]
ExecStart=%s up --keep --web none
Environment=MUSTER_RUNTIME_DIR=%s/run MUSTER_STATE_DIR=%s/state NO_COLOR=1
KillMode=process
OOMPolicy=continue
Restart=always
RestartSec=0
`

// A server that is a service of systemd's is killed: systemd starts another, whose sessions went on meanwhile. In version 2 that is no
// matter of course: a process may not be born into a control group that hands controllers on.
func TestVMServiceIsKilled(t *testing.T) {
	w := newWorld(t)
	systemctl := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
			t.Fatalf("systemctl %v: %v\n%s", args, err, out)
		}
	}
	const file = "/run/systemd/system/muster-test.service"
	if err := os.WriteFile(file, fmt.Appendf(nil, unit, binary(t), w.root, w.root), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	systemctl("daemon-reload")
	systemctl("start", "muster-test.service")
	defer func() {
		exec.Command("systemctl", "stop", "muster-test.service").Run()
		for _, k := range w.keepers() { // what the service left: that is what KillMode=process is for
			syscall.Kill(k, syscall.SIGKILL)
		}
	}()
	until(t, "the server answers", func() bool { return w.cmd("ps").Run() == nil })
	w.write("calm.py", calm)
	session := w.start("run", "calm.py")
	until(t, "both calm workers tick", func() bool { return ticks(session) > 4 })
	defer func() {
		if t.Failed() {
			t.Logf("ps -a: %s\nthe calm session: %s", w.muster("ps", "-a").out, tail(session.output()))
		}
	}()
	first := mainPID(t)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "systemd has started another, which answers", func() bool { return w.cmd("ps").Run() == nil && mainPID(t) != first })
	if out := w.muster("ps").ok(t).out; strings.Count(out, "running") != 3 {
		t.Errorf("the session and its workers are told as: %s", out)
	}
	now := ticks(session)
	until(t, "the calm workers go on", func() bool { return ticks(session) > now+10 })
	w.script(`
import cdsw
ws = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="b = bytearray(1000 * 1000 * 1000)")
assert cdsw.await_workers(ws)["failures"][0]["oomKilled"]
`).ok(t) // limits are in force for what the second server starts
	w.write("stop", "")
	if code := session.wait(); code != 0 {
		t.Errorf("the calm session ended with %d: %s", code, tail(session.output()))
	}
}

func mainPID(t *testing.T) (pid int) {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "-p", "MainPID", "--value", "muster-test.service").Output()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(string(out), &pid)
	return pid
}
