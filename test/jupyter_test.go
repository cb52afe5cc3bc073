package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// jupyter is the Python of a virtual environment with a Jupyter server.
func jupyter(t *testing.T) (python string) {
	t.Helper()
	return pythonWith(t, "jupyter", "jupyter_server", "ipykernel")
}

// pythonWith is the Python of a virtual environment below build/ with packages of the package index, made by the first test that needs it.
func pythonWith(t *testing.T, name string, packages ...string) (python string) {
	t.Helper()
	venv := filepath.Join(repo(t), "build", name)
	python = filepath.Join(venv, "bin", "python3")
	there := func() bool { return exec.Command(python, "-c", "import "+strings.Join(packages, ", ")).Run() == nil }
	if there() {
		return python
	}
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", venv},
		append([]string{python, "-m", "pip", "install", "--quiet"}, packages...),
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("capability %s: %v cannot be installed: %v: %s", name, packages, err, tail(string(out)))
		}
	}
	if !there() {
		t.Fatalf("%s has no %v after pip has installed them", python, packages)
	}
	return python
}

// In a real Jupyter server: what workers print appears in the cell that launched them, also while the next one runs; the end
// of the kernel is theirs.
func TestJupyter(t *testing.T) {
	w := newWorld(t)
	python := jupyter(t)
	w.muster("clients", "install", "--python", python).ok(t)
	t.Cleanup(func() { w.muster("clients", "uninstall", "--python", python).ok(t) })
	home := filepath.Join(w.root, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "HOME="+home, "JUPYTER_PLATFORM_DIRS=0", "JUPYTER_CONFIG_DIR="+home, "JUPYTER_DATA_DIR="+home, "JUPYTER_RUNTIME_DIR="+home)
	before := w.count()
	r := w.finish(w.plain(python, filepath.Join(repo(t), "test/testdata/jupyter.py"), w.project), 4*deadline).ok(t)
	r.has(t, "launched 3")
	for _, end := range []string{"restart", "shutdown"} {
		took := regexp.MustCompile("kernel " + end + ` ended the workers after \d+ ms`).FindString(r.out)
		if took == "" {
			t.Errorf("nothing about the %s:\n%s", end, r.out)
		}
		t.Log(took)
	}
	w.endServer()
	w.nothingLeft(before)
}
