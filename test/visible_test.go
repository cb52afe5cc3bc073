package test

import (
	"os"
	"path/filepath"
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
