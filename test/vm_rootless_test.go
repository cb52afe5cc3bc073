//go:build vm

package test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// An ordinary user's way to limits, as docs/systemd.md has it: a scope of the user's own manager, which systemd delegates.
func TestVMDelegatedToAUser(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("capability user: this is about somebody else than root")
	}
	w := makeWorld(t)
	w.write("session.py", `
import cdsw
calm = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="calm", code="import time; time.sleep(1); print('calm is fine')")
hog = cdsw.launch_workers(n=1, cpu=0.5, memory=0.2, name="hog", code="b = bytearray(1000 * 1000 * 1000); print('unreachable')")
for x in cdsw.await_workers(hog, timeout_seconds=600)["failures"]:
    print(x["name"], x["reason"], "|", x["k8s"]["message"])
assert len(cdsw.await_workers(calm, timeout_seconds=600)["workers"]) == 1
`)
	delegated := func(args ...string) *exec.Cmd {
		inner := w.cmd(args...)
		cmd := exec.Command("systemd-run", append([]string{"--user", "--quiet", "--scope", "-p", "Delegate=yes"}, inner.Args...)...)
		cmd.Dir, cmd.Env = inner.Dir, inner.Env
		return cmd
	}
	doctor := w.finish(delegated("doctor"), 4*deadline)
	t.Logf("doctor, delegated:\n%s\ndoctor, not:\n%s", doctor.out, w.muster("doctor").out)
	r := w.finish(delegated("run", "--rung", "rootless", "session.py"), 10*deadline).ok(t)
	if !regexp.MustCompile(`hog out of memory \| out of memory: limit 200 MB, peak \d+`).MatchString(r.out) {
		t.Errorf("the limit is not in force: %s\n%s", r.out, r.err)
	}
	r.has(t, "[calm] calm is fine")
}
