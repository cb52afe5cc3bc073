package clients

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"muster/engine"
)

// venv makes a virtual environment without pip.
func venv(t *testing.T) (dir string, i Interpreter) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("capability python3: not on the PATH")
	}
	dir = filepath.Join(t.TempDir(), "a [venv]")
	if out, err := exec.Command(python, "-m", "venv", "--without-pip", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir, Interpreter{Path: filepath.Join(dir, "bin", "python"), Environ: without("PYTHONPATH"), Binary: "/opt/muster"}
}

func without(name string) (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, name+"=") {
			env = append(env, kv)
		}
	}
	return env
}

// below lists the files in dir with their contents.
func below(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			if err == nil && d.IsDir() {
				all[path] = ""
			}
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func same(a, b map[string]string) string {
	for k, v := range a {
		if got, there := b[k]; !there || got != v {
			return k
		}
	}
	for k := range b {
		if _, there := a[k]; !there {
			return k
		}
	}
	return ""
}

func run(t *testing.T, i Interpreter, code string) string {
	t.Helper()
	cmd := exec.Command(i.Path, "-c", code)
	cmd.Dir, cmd.Env = t.TempDir(), append(i.Environ, noAttach, "PYTHONDONTWRITEBYTECODE=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestInstallPython(t *testing.T) {
	dir, i := venv(t)
	before := below(t, dir)
	r, err := InstallPython(t.Context(), i)
	if err != nil || !r.Changed || !strings.HasPrefix(r.Folder, dir) || !strings.HasPrefix(r.Interpreter, i.Path+", Python 3.") {
		t.Fatalf("%+v, %v", r, err)
	}
	out := run(t, i, `
import cdsw, cml.workers_v1, cml.utils_v1, muster, _muster, os, importlib.metadata as m
print(os.path.dirname(cdsw.__file__), open(os.path.join(os.path.dirname(_muster.__file__), "binary")).read(), m.version("muster-clients"))
for f in m.files("muster-clients"):
    if f.name != "RECORD": assert f.hash.value and f.size == f.locate().stat().st_size, f`)
	if want := r.Folder + "/cdsw /opt/muster\n 0."; !strings.HasPrefix(out, want) {
		t.Errorf("it says %q, not %q", out, want)
	}
	there := below(t, dir)
	if again, err := InstallPython(t.Context(), i); err != nil || again.Changed || same(there, below(t, dir)) != "" {
		t.Errorf("again: %+v, %v", again, err)
	}
	// Another release: a file that is no more, a file that is another.
	old := filepath.Join(r.Folder, "_muster", "_old.py")
	record, _ := filepath.Glob(filepath.Join(globQuote(r.Folder), "muster_clients-*", "RECORD"))
	f, err := os.OpenFile(record[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("_muster/_old.py,,\n")
	f.Close()
	os.WriteFile(old, nil, 0o644)
	os.WriteFile(filepath.Join(r.Folder, "cdsw", "__init__.py"), []byte("old = 1\n"), 0o644)
	i.Binary = "/opt/newer/muster"
	if again, err := InstallPython(t.Context(), i); err != nil || !again.Changed || exists(old) {
		t.Errorf("over an old one: %+v, %v", again, err)
	}
	if out := run(t, i, "import cdsw; print(hasattr(cdsw, 'old'))"); out != "False\n" {
		t.Error("an old file was kept")
	}
	if r, err = UninstallPython(t.Context(), i); err != nil || !r.Changed || r.Left != "" {
		t.Errorf("uninstall: %+v, %v", r, err)
	}
	if left := same(before, below(t, dir)); left != "" {
		t.Errorf("uninstall leaves another %s", left)
	}
	if r, err = UninstallPython(t.Context(), i); err != nil || r.Changed {
		t.Errorf("uninstall again: %+v, %v", r, err)
	}
}

// What is not ours stays: packages of the same names, and files that somebody put into ours.
func TestInstallPythonSparesOthers(t *testing.T) {
	_, i := venv(t)
	r, err := InstallPython(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(r.Folder, "cml", "mine.txt")
	os.WriteFile(mine, []byte("mine"), 0o644)
	if r, err = UninstallPython(t.Context(), i); err != nil || r.Left != filepath.Dir(mine) || !exists(mine) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, foreign := range []string{filepath.Dir(mine), filepath.Join(r.Folder, "cdsw.py")} {
		if !exists(foreign) {
			os.WriteFile(foreign, nil, 0o644)
		}
		before := below(t, r.Folder)
		_, err := InstallPython(t.Context(), i)
		if engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), foreign+" is there already, and is not Muster's") {
			t.Errorf("%s: %v", foreign, err)
		}
		if changed := same(before, below(t, r.Folder)); changed != "" {
			t.Errorf("%s was changed", changed)
		}
		os.RemoveAll(foreign)
	}
	// Another cdsw before ours on the path.
	other := t.TempDir()
	os.WriteFile(filepath.Join(other, "cdsw.py"), nil, 0o644)
	i.Environ = append(i.Environ, "PYTHONPATH="+other)
	if _, err := InstallPython(t.Context(), i); engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), other+"/cdsw.py") {
		t.Errorf("hidden by another: %v", err)
	}
}

// An interpreter that a package manager looks after gets nothing; the user does.
func TestInstallPythonForTheUser(t *testing.T) {
	facts := pythonFacts{Executable: "/usr/bin/python3", Purelib: t.TempDir(), User: "/home/me/.local/lib/python3/site-packages"}
	facts.Path = []string{facts.Purelib}
	for _, c := range []struct {
		name   string
		change func(*pythonFacts)
		want   string
	}{
		{"of one's own", func(*pythonFacts) {}, facts.Purelib},
		{"managed", func(f *pythonFacts) { f.Managed = true }, facts.User},
		{"read-only", func(f *pythonFacts) { f.Purelib = "/proc/nowhere" }, facts.User},
		{"a virtual environment of a managed one", func(f *pythonFacts) { f.Managed, f.Venv = true, true }, facts.Purelib},
		{"no user folder", func(f *pythonFacts) { f.Managed, f.User = true, "" }, ""},
	} {
		f := facts
		c.change(&f)
		dir, err := f.folder()
		if dir != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %s, %v", c.name, dir, err)
		}
	}
}

func TestInstallPythonWrongInterpreters(t *testing.T) {
	for path, want := range map[string]string{
		"/bin/true": "/bin/true is no Python", "/bin/false": "/bin/false: exit status 1", "/nowhere": "/nowhere: fork/exec /nowhere: no such file",
	} {
		_, err := InstallPython(t.Context(), Interpreter{Path: path, Environ: os.Environ()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	old := filepath.Join(t.TempDir(), "python")
	os.WriteFile(old, []byte("#!/bin/sh\necho '{\"executable\": \"/usr/bin/python2\", \"version\": \"2.7.18\", \"old\": true}'\n"), 0o755)
	_, err := InstallPython(t.Context(), Interpreter{Path: old})
	if err == nil || err.Error() != "/usr/bin/python2 is Python 2.7.18, and the packages need 3.8 or newer" {
		t.Error(err)
	}
}

func TestInstallR(t *testing.T) {
	requireR(t)
	r, err := exec.LookPath("R")
	if err != nil {
		t.Fatal(err)
	}
	library := t.TempDir()
	i := Interpreter{Path: r, Environ: append(without("R_LIBS"), "R_LIBS="+library), Binary: "/opt/muster"}
	for range 2 {
		done, err := InstallR(context.Background(), i)
		if err != nil || !done.Changed || done.Folder != library {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	cmd := exec.Command(r, "--no-save", "--no-echo", "-e", `library(cml); cat(readLines(system.file("binary", package = "cdsw")), find.package("cml"))`)
	cmd.Env = append(i.Environ, noAttach)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "/opt/muster "+library+"/cml" {
		t.Errorf("%v: %s", err, out)
	}
	if done, err := UninstallR(t.Context(), i); err != nil || !done.Changed {
		t.Errorf("%+v, %v", done, err)
	}
	if left, _ := os.ReadDir(library); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	os.Mkdir(filepath.Join(library, "cml"), 0o755)
	if _, err := InstallR(t.Context(), i); engine.KindOf(err) != engine.Conflict {
		t.Errorf("over a foreign package: %v", err)
	}
	if done, err := UninstallR(t.Context(), i); err != nil || done.Changed || !exists(filepath.Join(library, "cml")) {
		t.Errorf("uninstall of a foreign package: %+v, %v", done, err)
	}
}
