package clients

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestPythonDirCanBeImported(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("capability python3: not on the PATH")
	}
	dir, err := PythonDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", "import cdsw, cml, muster, cml.workers_v1, cml.utils_v1, _muster._http, _muster._progress; print(muster.__file__)")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, noAttach)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), dir) {
		t.Fatalf("%v: %s", err, out)
	}
	runner := filepath.Join(dir, "_muster", "_runner.py")
	code := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(code, []byte("  print('ran', __name__)"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(python, "-u", runner, "code", code).CombinedOutput(); err != nil || string(out) != "ran __main__\n" {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestPythonDirIsWholeWithoutTests(t *testing.T) {
	tree, err := fs.Sub(files, "python")
	if err != nil {
		t.Fatal(err)
	}
	// What is in the source folders is carried, whoever adds a file.
	for _, p := range []string{"muster", "cdsw", "cml", "_muster"} {
		entries, err := os.ReadDir(filepath.Join("python", p))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, err := fs.Stat(tree, p+"/"+e.Name()); err != nil && e.Name() != "__pycache__" {
				t.Errorf("%s/%s is not carried", p, e.Name())
			}
		}
	}
	if _, err := fs.Stat(tree, "tests"); err == nil {
		t.Error("the tests are carried")
	}
}

func TestPythonDirIsReadableWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir, err := PythonDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		info, statErr := os.Stat(name)
		if err != nil || statErr != nil {
			t.Fatal(err, statErr)
		}
		want := fs.FileMode(0o644)
		if d.IsDir() {
			want = 0o755
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: %o, want %o", name, got, want)
		}
		return nil
	})
}

func TestPythonDirTwiceAndRepaired(t *testing.T) {
	cache := t.TempDir()
	dir, err := PythonDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(dir)
	again, err := PythonDir(cache)
	if after, _ := os.Stat(dir); err != nil || again != dir || !os.SameFile(before, after) {
		t.Fatalf("made again: %q, %v", again, err)
	}
	if err := os.Remove(filepath.Join(dir, "cdsw", "__init__.py")); err != nil {
		t.Fatal(err)
	}
	if again, err = PythonDir(cache); err != nil || again != dir {
		t.Fatal(again, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "cdsw", "__init__.py")); err != nil {
		t.Error("a missing file was not put back:", err)
	}
	onlyEntry(t, cache, filepath.Base(dir))
}

func TestPythonDirAtOnce(t *testing.T) {
	cache := t.TempDir()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			dir, err := PythonDir(cache)
			if err != nil {
				t.Error(err)
			} else if _, err := os.Stat(filepath.Join(dir, "_muster", "_runner.py")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	dir, err := PythonDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	onlyEntry(t, cache, filepath.Base(dir))
}

func TestPythonDirWhereNobodyMayWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := PythonDir(filepath.Join(file, "cache")); err == nil {
		t.Fatal("no error")
	}
}

// onlyEntry fails if anything but name is in dir.
func onlyEntry(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("%s was left in the cache", e.Name())
		}
	}
}
