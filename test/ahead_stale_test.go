package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

// staleScript launches workers until it has had one that was started ahead, or forked, and then, when the test has changed something, one more
// each time: it prints what the worker sees.
const staleScript = `
import cdsw, os, sys, time
def launch(code):
    w = cdsw.launch_workers(1, 0.1, 0.2, code=code)[0]
    done = cdsw.await_workers([w])
    return cdsw.worker_logs(w["id"]) if done["workers"] else done["failures"][0]["k8s"]["message"]
look = """
import os, sys
print("SAW", os.listdir("."), os.listdir("there") if os.path.isdir("there") else "", sys.path[-1])
"""
for i in range(100):
    if "_runner.py %s" in launch("print(open('/proc/self/cmdline').read().replace(chr(0), ' '))"):
        break
    time.sleep(0.1)
else:
    sys.exit("none was started ahead")
time.sleep(1)  # until all that are to wait do: none is to be made after the change
print("READY", flush=True)
sys.stdin.readline()
print("FOUND", launch(look).strip(), flush=True)
`

// Workers that were started ahead find what is there when their work comes, as others would: what was turned, mounted or installed since
// is not what was there before.
func TestAheadSeesWhatChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, w *world, project string)
		want   string
	}{
		"another folder in its place": {func(t *testing.T, w *world, project string) {
			err := errors.Join(os.Rename(project, project+".old"), os.Mkdir(project, 0o700), os.WriteFile(filepath.Join(project, "new"), nil, 0o600))
			if err != nil {
				t.Fatal(err)
			}
		}, `FOUND SAW \['new'\]`},
		"a link in its place": {func(t *testing.T, w *world, project string) {
			other := filepath.Join(w.root, "other")
			if err := errors.Join(os.Mkdir(other, 0o700), os.Rename(project, project+".old"), os.Symlink(other, project)); err != nil {
				t.Fatal(err)
			}
		}, `FOUND launch failed at .*which is not shared`},
		"nothing in its place": {func(t *testing.T, w *world, project string) {
			if err := os.Rename(project, project+".old"); err != nil {
				t.Fatal(err)
			}
		}, `FOUND launch failed`},
		"a mount": {func(t *testing.T, w *world, project string) {
			there := filepath.Join(project, "there")
			if err := errors.Join(os.Mkdir(there, 0o700), syscall.Mount("none", there, "tmpfs", 0, "size=64k")); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(there, syscall.MNT_DETACH) })
			if err := os.WriteFile(filepath.Join(there, "mounted"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, `FOUND SAW .*\['mounted'\]`},
		"a package": {func(t *testing.T, w *world, project string) {
			packages, _ := filepath.Glob(filepath.Join(w.root, "venv", "lib", "*", "site-packages"))
			if len(packages) != 1 {
				t.Fatal(packages)
			}
			if err := os.WriteFile(filepath.Join(packages[0], "editable.pth"), []byte(project+"/src\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(project, "src"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, `FOUND SAW .*/src$`},
	} {
		for _, how := range []string{"wait", "fork"} {
			t.Run(name+"/"+how, func(t *testing.T) { aheadSees(t, how, c.change, c.want) })
		}
	}
}

func aheadSees(t *testing.T, how string, change func(t *testing.T, w *world, project string), want string) {
	w := newAheadWorld(t)
	python := w.venv()
	project := w.project
	script := filepath.Join(w.root, "session.py")
	if err := os.WriteFile(script, fmt.Appendf(nil, staleScript, how), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+filepath.Dir(python)+":"+os.Getenv("PATH"))
	cmd := w.cmd("run", "--project", project, script)
	typed, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	run := w.begin(cmd)
	run.await("READY\n")
	change(t, w, project)
	typed.Write([]byte("\n"))
	typed.Close()
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !regexp.MustCompile("(?m)" + want).MatchString(run.output()) {
		t.Errorf("%q is missing in %s", want, tail(run.output()))
	}
}

// venv makes a virtual environment beside the project, and returns its interpreter.
func (w *world) venv() string {
	w.t.Helper()
	dir := filepath.Join(w.root, "venv")
	if out, err := exec.Command("python3", "-m", "venv", "--without-pip", dir).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "bin", "python3")
}
