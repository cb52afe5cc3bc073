package kernel

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"muster/engine"
)

func table(t *testing.T) *Table {
	t.Helper()
	return NewTable(Config{
		Visible:    []string{"/clients"},
		PythonPath: "/clients/python",
		Run:        direct,
		RLibrary: func(context.Context, engine.RunProbe, *engine.Behalf, string, string) (string, error) {
			return "/clients/r", nil
		},
	})
}

// direct runs a probe without a sandbox, which is the driver's to make.
func direct(ctx context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Env, cmd.Dir = p.Env, p.Dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.Bytes(), errOut.Bytes(), err
}

// project makes a folder with every kind of thing that somebody may name as a script.
func project(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "good.py"), []byte("print(1)\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "good.R"), []byte("1\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "folder.py"), 0o700))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo.py"), 0o600))
	must(t, os.Symlink("/nowhere/at/all.py", filepath.Join(dir, "dangling.py")))
	must(t, os.Symlink("good.py", filepath.Join(dir, "link.py")))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeBinary makes a file that passes for a program.
func fakeBinary(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bin")
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, name), []byte("\x7fELF and so on"), 0o700))
	return dir
}

func TestBadScripts(t *testing.T) {
	dir := project(t)
	bin := fakeBinary(t, "python3")
	for _, c := range []struct{ script, want string }{
		{"missing.py", `script "missing.py" does not exist (looked for ` + dir + `/missing.py)`},
		{"/missing.py", `script "/missing.py" does not exist`},
		{".", `script "." is a folder, not a file`},
		{"folder.py", `script "folder.py" is a folder, not a file`},
		{"fifo.py", `script "fifo.py" is no regular file (p---------)`},
		{"dangling.py", `script "dangling.py" is a link that leads nowhere (to /nowhere/at/all.py)`},
		{"../good.py", `script "../good.py" leads out of the project folder ` + dir},
		{"a/../../good.py", `script "a/../../good.py" leads out of the project folder ` + dir},
		{"nul\x00.py", `script name "nul\x00.py" holds a NUL`},
		{"notes.txt", `cannot tell the kernel of script "notes.txt" from its ending`},
	} {
		_, err := table(t).Prepare(context.Background(), Request{Script: c.script, Project: dir, SearchEnv: map[string]string{"PATH": bin}})
		if err == nil || err.Error() != c.want || engine.KindOf(err) != engine.Invalid {
			t.Errorf("%q: got %v (%s), want %s", c.script, err, engine.KindOf(err), c.want)
		}
	}
}

func TestUnknownKernelAndMissingInterpreter(t *testing.T) {
	dir := project(t)
	_, err := table(t).Prepare(context.Background(), Request{Kernel: "julia", Code: "1", Project: dir})
	if err == nil || err.Error() != `unknown kernel "julia"` || !strings.Contains(engine.HintOf(err), "python3, python2") {
		t.Errorf("got %v, hint %q", err, engine.HintOf(err))
	}
	for kernel, pkg := range map[engine.Kernel]string{
		engine.Python3: "python3", engine.Python2: "jython", engine.R: "r-base-core", engine.Scala: "scala",
	} {
		_, err = table(t).Prepare(context.Background(), Request{Kernel: kernel, Code: "1", Project: dir, SearchEnv: map[string]string{"PATH": dir}})
		if engine.KindOf(err) != engine.Unavailable || !strings.Contains(engine.HintOf(err), pkg) {
			t.Errorf("%s: got %v, hint %q: want the package %s named", kernel, err, engine.HintOf(err), pkg)
		}
	}
}

// The memory that was asked for is there for a Scala program, unless its options say otherwise.
func TestScalaHeap(t *testing.T) {
	path := map[string]string{"PATH": fakeBinary(t, "scala")}
	for _, c := range []struct{ memory, given, want string }{
		{"4000", "", "-Xmx3750m"}, {"500", "", "-Xmx250m"}, {"300", "", "-Xmx150m"}, {"4000", "-Xmx1g", ""}, {"", "", ""},
	} {
		for _, interactive := range []bool{false, true} {
			r := Request{Kernel: engine.Scala, Code: "1", Project: t.TempDir(), SearchEnv: path, Interactive: interactive,
				Env: map[string]string{"CDSW_MEMORY_MB": c.memory, "JAVA_OPTS": c.given}}
			got, err := table(t).Prepare(context.Background(), r)
			if err != nil || got.Env["JAVA_OPTS"] != c.want {
				t.Errorf("%+v: %q (%v)", c, got.Env["JAVA_OPTS"], err)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	dir := project(t)
	py, rs := fakeBinary(t, "python3"), fakeBinary(t, "Rscript")
	env := map[string]string{"PATH": py + ":" + rs, "PYTHONPATH": "/mine"}
	c, err := table(t).Prepare(context.Background(), Request{Script: "link.py", Args: []string{"a b"}, Project: dir, Env: env, SearchEnv: env})
	must(t, err)
	got := strings.Join(c.Argv, "|")
	if want := py + "/python3|-u|/clients/python/_muster/_runner.py|script|" + dir + "/link.py|a b"; got != want {
		t.Errorf("argv\n got %s\nwant %s", got, want)
	}
	if c.Env["PYTHONPATH"] != "/clients/python:/mine" || len(c.Files) != 0 {
		t.Errorf("env %v, files %v", c.Env, c.Files)
	}
	c, err = table(t).Prepare(context.Background(), Request{Kernel: engine.R, Code: "cat(1)", Project: dir, Env: env, SearchEnv: env})
	must(t, err)
	if got := strings.Join(c.Argv, "|"); c.Private == "" || got != rs+"/Rscript|"+c.Private+"/code.R" || string(c.Files["code.R"]) != "cat(1)" {
		t.Errorf("argv %s, files %v", got, c.Files)
	}
	if want := map[string]string{"R_PROFILE": "/clients/r/muster.Rprofile"}; !maps.Equal(c.Env, want) {
		t.Errorf("env %v, want %v", c.Env, want)
	}
	for theirs, read := range map[string]string{"": "", "/etc/mine.R": "/etc/mine.R", "/elsewhere/muster.Rprofile": "not set"} {
		env := map[string]string{"PATH": rs, "R_PROFILE": theirs}
		c, err := table(t).Prepare(context.Background(), Request{Kernel: engine.R, Code: "cat(1)", Project: dir, Env: env, SearchEnv: env})
		must(t, err)
		got, set := c.Env["MUSTER_R_PROFILE"]
		if !set {
			got = "not set"
		}
		if got != read || c.Env["R_PROFILE"] != "/clients/r/muster.Rprofile" {
			t.Errorf("with R_PROFILE=%q: env %v", theirs, c.Env)
		}
	}
	c, err = table(t).Prepare(context.Background(), Request{Script: "good.R", Project: dir, Env: env, SearchEnv: env})
	must(t, err)
	if c.Kernel != engine.R {
		t.Errorf("kernel %s for good.R", c.Kernel)
	}
	c, err = table(t).Prepare(context.Background(), Request{Kernel: engine.Python3, Project: dir, Env: env, SearchEnv: env})
	must(t, err)
	if c.Argv[0] != "/bin/sleep" {
		t.Errorf("an idle worker runs %v", c.Argv)
	}
}

// A version manager leaves wrappers of versions that are not chosen. Where another program for the language is there, that is
// taken; Python 3's two names are of one program.
func TestWrapperThatStandsForNothing(t *testing.T) {
	dir, bin := project(t), t.TempDir()
	for _, name := range []string{"python2", "python3"} {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho no such version >&2\nexit 127\n"), 0o700))
	}
	pypy, python := fakeBinary(t, "pypy"), fakeBinary(t, "python")
	r := Request{Kernel: engine.Python2, Code: "1", Project: dir, SearchEnv: map[string]string{"PATH": bin + ":" + pypy + ":/bin"}}
	tab := table(t)
	for range 2 { // the second time it is known that the wrapper stands for none
		c, err := tab.Prepare(t.Context(), r)
		must(t, err)
		if c.Interpreter != filepath.Join(pypy, "pypy") {
			t.Errorf("Python 2 is %s", c.Interpreter)
		}
	}
	for kernel, path := range map[engine.Kernel]string{engine.Python2: t.TempDir(), engine.Python3: python} {
		r.Kernel, r.SearchEnv = kernel, map[string]string{"PATH": bin + ":" + path}
		if c, err := tab.Prepare(t.Context(), r); err == nil || !strings.Contains(err.Error(), bin) || !strings.Contains(err.Error(), "no such version") {
			t.Errorf("%s is %v, %v", kernel, c.Argv, err)
		}
	}
}

// A wrapper script is asked once which interpreter it stands for, and never stands on the launch path.
func TestWrapperIsResolvedOnce(t *testing.T) {
	dir := project(t)
	real := filepath.Join(fakeBinary(t, "python3.99"), "python3.99")
	bin := t.TempDir()
	asked := filepath.Join(bin, "asked")
	shim := "#!/bin/sh\necho x >> " + asked + "\necho " + real + "\n"
	must(t, os.WriteFile(filepath.Join(bin, "python3"), []byte(shim), 0o700))
	tab := table(t)
	for range 3 {
		c, err := tab.Prepare(context.Background(), Request{Kernel: engine.Python3, Code: "1", Project: dir, SearchEnv: map[string]string{"PATH": bin + ":/usr/bin:/bin"}})
		must(t, err)
		if c.Interpreter != real || c.Argv[0] != real {
			t.Fatalf("interpreter %s, argv %v, want %s", c.Interpreter, c.Argv, real)
		}
	}
	if b, _ := os.ReadFile(asked); string(b) != "x\n" {
		t.Errorf("the wrapper was asked %d times", len(b)/2)
	}
	must(t, os.WriteFile(filepath.Join(bin, "python3"), []byte("#!/bin/sh\nexit 3\n"), 0o700))
	_, err := table(t).Prepare(context.Background(), Request{Kernel: engine.Python3, Code: "1", Project: dir, SearchEnv: map[string]string{"PATH": bin}})
	var e *engine.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "does not say which interpreter it stands for") {
		t.Errorf("a broken wrapper: %v", err)
	}
}
