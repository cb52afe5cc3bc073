package test

import (
	"testing"
)

// A server inside of an engine: what is told is that, and what to do.
func TestRunInAnEngine(t *testing.T) {
	w := newWorld(t)
	r := w.script(`
import subprocess
print(subprocess.run(["` + binary(t) + `", "run", "-c", "print(1)"], capture_output=True, text=True).stderr)
`).ok(t)
	r.has(t, "a server cannot run inside an engine, and this is one: ", "muster launch")
}

// Folders of which every engine has its own are refused before anything is made or asked.
func TestProjectsThatCannotBeShared(t *testing.T) {
	w := newWorld(t)
	for dir, want := range map[string]string{
		"/tmp": "the project folder /tmp cannot be shared: every engine has its own /tmp", "/proc": "lies in /proc, which is the system's",
	} {
		cmd := w.cmd("run", "-c", "print(1)")
		cmd.Dir = dir
		r := w.finish(cmd, deadline)
		if r.code != 1 {
			t.Errorf("exit code %d", r.code)
		}
		r.has(t, want)
	}
}
