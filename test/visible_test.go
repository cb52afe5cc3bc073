package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A script may be a link to a file anywhere in /tmp, of which engines see nothing else.
func TestScriptIsALink(t *testing.T) {
	w := newWorld(t)
	real := filepath.Join(t.TempDir(), "a", "long", "way", "out.py")
	if err := os.MkdirAll(filepath.Dir(real), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(real, []byte("print('from elsewhere')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(w.project, "link.py")); err != nil {
		t.Fatal(err)
	}
	w.muster("run", "link.py").ok(t).has(t, "from elsewhere")
}

// Scripts in an engine find the muster that serves them, also if it lies in /tmp.
func TestMusterInTmp(t *testing.T) {
	w := newWorld(t)
	bin := t.TempDir()
	b, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "muster"), b, 0o700); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"))
	cmd := w.cmd("run", "-c", "import subprocess; print(subprocess.run(['muster', 'ps'], check=True, capture_output=True, text=True))")
	cmd.Path = filepath.Join(bin, "muster")
	w.finish(cmd, 4*deadline).ok(t).has(t, "returncode=0")
}

// An engine that turns its project, or a virtual environment in it, into a link gets nothing to see by it: neither what other
// sessions have, nor a service of the host's.
func TestTurnedIntoLinks(t *testing.T) {
	w := newWorld(t)
	open, err := os.MkdirTemp("/var/lib", "muster-test-") // where engines can rename their project
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(open)
	host, err := os.MkdirTemp("/run", "muster-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(host)
	others := filepath.Join(w.root, "state", "sessions", "other")
	if err := errors.Join(os.MkdirAll(filepath.Join(others, "bin"), 0o700), os.MkdirAll(filepath.Join(host, "bin"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{host, others} {
		if err := os.WriteFile(filepath.Join(target, "secret"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.project = filepath.Join(open, "project")
		if err := os.MkdirAll(w.project, 0o700); err != nil {
			t.Fatal(err)
		}
		w.muster("run", "-c", `
import cdsw, os
here, target = os.getcwd(), "`+target+`"
def launch():
    ws = cdsw.launch_workers(1, cpu=0.2, memory=0.5, code="import os; print('se' + 'en', os.listdir('`+target+`'))")
    return cdsw.await_workers(ws)
assert len(launch()["failures"]) == 1  # it is not there
os.rename(here, here + ".before")
os.symlink(target, here)
done = launch()
assert not done["workers"], done
message = done["failures"][0]["k8s"]["message"]
assert message.startswith('launch failed at "visible paths": %s now leads to %s, which is not shared' % (here, target)), done
os.remove(here)
os.rename(here + ".before", here)
ws = cdsw.launch_workers(1, cpu=0.2, memory=0.5, code="import os; print('back in', os.getcwd())")
assert len(cdsw.await_workers(ws)["workers"]) == 1
`).ok(t).hasNone(t, "seen")
		// The same with what the interpreter needs.
		venv := filepath.Join(w.project, ".venv")
		if err := errors.Join(os.MkdirAll(filepath.Join(venv, "bin"), 0o700), os.Symlink("/usr/bin/python3", filepath.Join(venv, "bin", "python3"))); err != nil {
			t.Fatal(err)
		}
		cmd := w.cmd("run", "-c", `
import cdsw, os
here, target = os.getcwd(), "`+target+`"
os.rename(".venv", "venv.before")
os.symlink(target, ".venv")
ws = cdsw.launch_workers(1, cpu=0.2, memory=0.5, code="import os; print('se' + 'en', os.listdir('`+target+`'))")
done = cdsw.await_workers(ws)
assert not done["workers"] and 'launch failed at "visible paths": %s/.venv now leads to %s' % (here, target) in str(done), done
`)
		cmd.Env = append(cmd.Env, "PATH="+filepath.Join(venv, "bin")+":"+os.Getenv("PATH"))
		w.finish(cmd, 4*deadline).ok(t).hasNone(t, "seen")
		if err := os.RemoveAll(w.project); err != nil {
			t.Fatal(err)
		}
	}
}

func (r result) hasNone(t *testing.T, part string) {
	t.Helper()
	if strings.Contains(r.out+r.err, part) {
		t.Errorf("there is %q in\nstdout: %s\nstderr: %s", part, tail(r.out), tail(r.err))
	}
}

// Wrappers in a folder right below /tmp work, of whichever language.
func TestWrappersRightBelowTmp(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	shims, err := os.MkdirTemp("/tmp", "muster-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(shims)
	for _, name := range []string{"python3", "Rscript", "R"} {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shims, name), []byte("#!/bin/sh\nexec "+real+" \"$@\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(w.env, "PATH="+shims+":"+os.Getenv("PATH"))
	w.muster("run", "-c", "print('python by a wrapper')").ok(t).has(t, "python by a wrapper")
	w.muster("run", "--kernel", "r", "-c", "cat('R by a wrapper\n')").ok(t).has(t, "R by a wrapper")
}

// All folders of a server may lie in one folder in /tmp.
func TestAllFoldersInTmp(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "MUSTER_RUNTIME_DIR="+w.root, "MUSTER_STATE_DIR="+filepath.Join(w.root, "state"), "MUSTER_CACHE_DIR="+filepath.Join(w.root, "cache"))
	w.muster("run", "-c", "import cdsw, os; print('inside', os.path.exists('"+w.root+"/state'))").ok(t).has(t, "inside False")
}
