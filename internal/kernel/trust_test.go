package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/engine"
)

// shim writes a wrapper script that leaves a line in the returned file each time it is run.
func shim(t *testing.T, dir, name, answer string) (asked string) {
	t.Helper()
	asked = filepath.Join(dir, "asked")
	text := "#!/bin/sh\necho x >> " + asked + "\necho " + answer + "\n"
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700))
	return asked
}

func lines(file string) int {
	b, _ := os.ReadFile(file)
	return strings.Count(string(b), "\n")
}

// What an engine's environment says is neither searched nor run.
func TestEnginesDoNotChooseInterpreters(t *testing.T) {
	dir, evil := project(t), t.TempDir()
	real := filepath.Join(fakeBinary(t, "python3.99"), "python3.99")
	asked := shim(t, evil, "python3", real)
	shim(t, evil, "Rscript", real)
	for _, k := range []engine.Kernel{engine.Python3, engine.R} {
		_, err := table(t).Prepare(context.Background(), Request{
			Kernel: k, Code: "1", Project: dir, Env: map[string]string{"PATH": evil}, SearchEnv: map[string]string{"PATH": "/nowhere"},
		})
		if engine.KindOf(err) != engine.Unavailable || !strings.HasPrefix(err.Error(), "no interpreter for kernel "+string(k)) {
			t.Errorf("%s: %v", k, err)
		}
	}
	good := t.TempDir()
	seen := filepath.Join(good, "seen")
	must(t, os.WriteFile(filepath.Join(good, "python3"), []byte("#!/bin/sh\necho \"$MARK\" > "+seen+"\necho "+real+"\n"), 0o700))
	_, err := table(t).Prepare(context.Background(), Request{
		Kernel: engine.Python3, Code: "1", Project: dir, Env: map[string]string{"PATH": evil, "MARK": "engine"},
		SearchEnv: map[string]string{"PATH": good + ":/usr/bin:/bin", "MARK": "session"},
	})
	must(t, err)
	if b, _ := os.ReadFile(seen); string(b) != "session\n" {
		t.Errorf("the wrapper got the environment of %q", b)
	}
	if n := lines(asked); n != 0 {
		t.Errorf("the engine's wrapper was run %d times", n)
	}
}

// Engines can replace what is on the search PATH: the table runs nothing of it by itself.
func TestWrappersRunAsProbes(t *testing.T) {
	dir, bin := project(t), t.TempDir()
	real := filepath.Join(fakeBinary(t, "python3.99"), "python3.99")
	asked := shim(t, bin, "python3", real)
	var probes []engine.Probe
	tab := NewTable(Config{Visible: []string{"/clients"}, Run: func(_ context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
		probes = append(probes, p)
		return []byte(real + "\n"), []byte("a warning\n"), nil
	}})
	c, err := tab.Prepare(context.Background(), Request{Kernel: engine.Python3, Code: "1", Project: dir, SearchEnv: map[string]string{"PATH": bin}})
	must(t, err)
	if c.Interpreter != real || lines(asked) != 0 || len(probes) != 1 {
		t.Fatalf("interpreter %s, run %d times, %d probes", c.Interpreter, lines(asked), len(probes))
	}
	p := probes[0]
	if p.Argv[0] != filepath.Join(bin, "python3") || p.Dir != dir || !slices.Equal(p.Env, []string{"PATH=" + bin}) || p.Writable != nil ||
		!slices.Equal(p.Visible, []string{filepath.Dir(bin), "/clients"}) {
		t.Errorf("%+v", p)
	}
}

// What keeps a wrapper from running is told as it is, without advice about what it stands for.
func TestWrapperThatCannotRun(t *testing.T) {
	bin := t.TempDir()
	shim(t, bin, "python3", "/nowhere")
	for _, c := range []struct {
		err              error
		said, want, hint string
	}{
		{engine.Errorf(engine.Unavailable, "python3 cannot be run: /tmp itself cannot be shared"), "", "python3 cannot be run: /tmp itself cannot be shared", ""},
		{errors.New("it ended with exit code 127"), "pyenv: no such\n  version\n", bin + "/python3 does not say which interpreter it stands for: it ended with exit code 127: pyenv: no such version",
			"put the interpreter itself first on the PATH"},
	} {
		tab := NewTable(Config{Run: func(context.Context, engine.Probe) (stdout, stderr []byte, err error) {
			return nil, []byte(c.said), c.err
		}})
		_, err := tab.Prepare(context.Background(), Request{Kernel: engine.Python3, Code: "1", Project: "/", SearchEnv: map[string]string{"PATH": bin}})
		if engine.KindOf(err) != engine.Unavailable || err.Error() != c.want || engine.HintOf(err) != c.hint {
			t.Errorf("%v (%s)", err, engine.HintOf(err))
		}
	}
}

// A wrapper is asked anew when something changed that its answer may depend on.
func TestWrapperIsAskedAgain(t *testing.T) {
	dir, bin := project(t), t.TempDir()
	first, second := filepath.Join(fakeBinary(t, "python3.1"), "python3.1"), filepath.Join(fakeBinary(t, "python3.2"), "python3.2")
	asked := shim(t, bin, "python3", first)
	tab := table(t)
	ask := func(want string, times int) {
		t.Helper()
		c, err := tab.Prepare(context.Background(), Request{Kernel: engine.Python3, Code: "1", Project: dir, SearchEnv: map[string]string{"PATH": bin + ":/usr/bin:/bin"}})
		must(t, err)
		if c.Interpreter != want || lines(asked) != times {
			t.Errorf("interpreter %s, asked %d times; want %s, %d", c.Interpreter, lines(asked), want, times)
		}
	}
	ask(first, 1)
	must(t, os.WriteFile(filepath.Join(dir, ".python-version"), []byte("2\n"), 0o600))
	ask(first, 2)
	shim(t, bin, "python3", second)
	must(t, os.Chtimes(filepath.Join(bin, "python3"), time.Time{}, time.Now().Add(time.Hour)))
	ask(second, 3)
	ask(second, 3)
	must(t, os.Remove(second))
	if _, err := tab.Prepare(context.Background(), Request{Kernel: engine.Python3, Code: "1", Project: dir, SearchEnv: map[string]string{"PATH": bin + ":/usr/bin:/bin"}}); err == nil {
		t.Error("an interpreter that is gone is still known")
	}
	for i := range 3 * maxResolved {
		tab.know(fmt.Sprint(i), "x")
	}
	if n := len(tab.resolved); n > maxResolved {
		t.Errorf("%d are remembered", n)
	}
}

// Engines learn nothing of the host's private folders by naming scripts, and get nothing of them to see.
func TestScriptsOutsideTheProject(t *testing.T) {
	tmp := t.TempDir() // below /tmp
	dir, outside := filepath.Join(tmp, "project"), filepath.Join(tmp, "outside")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	must(t, os.Mkdir(outside, 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "there.py"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "good.py"), nil, 0o600))
	for name, target := range map[string]string{
		"link.py": outside + "/there.py", "nolink.py": outside + "/not-there.py", "sub/up.py": "../../outside/there.py",
		"folder": outside, "two.py": "link.py", "run.py": "/var/run/x.py", "proc.py": "/proc/self/root" + outside + "/there.py",
		"inside.py": "sub/../good.py", "loop.py": "loop.py",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	alias := filepath.Join(tmp, "alias")
	must(t, os.Symlink(dir, alias))
	bin := fakeBinary(t, "python3")
	prepare := func(project, script string, trusted bool) (Command, error) {
		return table(t).Prepare(context.Background(), Request{
			Script: script, Project: project, Trusted: trusted, SearchEnv: map[string]string{"PATH": bin}, Shared: []string{dir},
		})
	}
	for _, script := range []string{
		outside + "/there.py", outside + "/not-there.py", outside + "/no/such/folder.py", dir + "/../outside/there.py", "/run/x.py", "/dev/null.py",
		"/proc/self/cwd/x.py", "link.py", "nolink.py", "sub/up.py", "folder/there.py", "folder/not-there.py", "two.py", "proc.py",
	} {
		_, err := prepare(dir, script, false)
		want := fmt.Sprintf("script %q lies in a folder that workers do not share: put it into the project", script)
		if err == nil || err.Error() != want || engine.KindOf(err) != engine.Invalid {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if info, err := os.Lstat("/var/run"); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if _, err := prepare(dir, "run.py", false); err == nil || !strings.Contains(err.Error(), "do not share") {
			t.Errorf("through /var/run: %v", err)
		}
	}
	for _, c := range []struct{ project, script string }{
		{dir, "good.py"}, {dir, dir + "/good.py"}, {dir, "inside.py"}, {alias, "good.py"}, {alias, alias + "/inside.py"}, {alias, dir + "/good.py"},
	} {
		command, err := prepare(c.project, c.script, false)
		if err != nil || slices.Contains(command.Visible, command.Argv[len(command.Argv)-1]) {
			t.Errorf("%+v: %v, visible %v", c, err, command.Visible)
		}
	}
	// Of what an engine has turned the project into since, nothing is told.
	must(t, os.Remove(alias))
	must(t, os.Symlink(outside, alias))
	for _, script := range []string{"there.py", alias + "/there.py", "not-there.py"} {
		if _, err := prepare(alias, script, false); err == nil || !strings.Contains(err.Error(), "do not share") {
			t.Errorf("%s: %v", script, err)
		}
	}
	if _, err := prepare(dir, "loop.py", false); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("loop: %v", err)
	}
	command, err := prepare(dir, outside+"/there.py", true)
	if err != nil || !slices.Contains(command.Visible, outside+"/there.py") {
		t.Errorf("the owner's: %v, visible %v", err, command.Visible)
	}
	if _, err := prepare(dir, outside+"/not-there.py", true); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("the owner's: %v", err)
	}
}
