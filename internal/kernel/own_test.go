package kernel

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"muster/engine"
)

func prepare(t *testing.T, r Request) (Command, error) {
	t.Helper()
	return table(t).Prepare(context.Background(), r)
}

// A project's kernel is started as its entry says: arguments for scripts and for code, where each has its default.
func TestOwnKernel(t *testing.T) {
	dir := project(t)
	must(t, os.WriteFile(filepath.Join(dir, "a.JL"), nil, 0o600))
	bin := fakeBinary(t, "julia")
	for _, c := range []struct {
		own    Own
		script string
		code   string
		want   string
	}{
		{Own{}, "a.JL", "", "julia|DIR/a.JL|x|y"},
		{Own{}, "", "1 + 1", "julia|PRIVATE/code.jl|x|y"},
		{Own{Script: []string{"-q", "{file}", "--"}}, "a.JL", "", "julia|-q|DIR/a.JL|--|x|y"},
		{Own{Script: []string{"-q", "{file}"}}, "", "1 + 1", "julia|-q|PRIVATE/code.jl|x|y"},
		{Own{Code: []string{"-e", "{code}"}}, "", "1 + 1", "julia|-e|1 + 1|x|y"},
		{Own{Code: []string{"--load={file}"}}, "", "1 + 1", "julia|--load=PRIVATE/code.jl|x|y"},
		{Own{Code: []string{"-e", "{code}"}}, "a.JL", "", "julia|DIR/a.JL|x|y"},
		{Own{Code: []string{"-e", "{code}"}}, "", "'{file}'", "julia|-e|'{file}'|x|y"}, // code is not filled in
	} {
		c.own.Kernel, c.own.Commands, c.own.Endings = "julia", []string{"nowhere", "julia"}, []string{".jl"}
		r := Request{
			Script: c.script, Code: c.code, Args: []string{"x", "y"}, Project: dir, Own: []Own{c.own},
			SearchEnv: map[string]string{"PATH": bin},
		}
		if c.script == "" {
			r.Kernel = "julia"
		}
		got, err := prepare(t, r)
		want := strings.ReplaceAll(filepath.Join(bin, c.want), "DIR", dir)
		if c.script == "" {
			want = bin + "/" + strings.ReplaceAll(c.want, "PRIVATE", got.Private)
		}
		if err != nil || strings.Join(got.Argv, "|") != want || got.Kernel != "julia" {
			t.Errorf("%+v\n got %s (%v)\nwant %s", c.own, strings.Join(got.Argv, "|"), err, want)
		}
		if c.code != "" && string(got.Files["code.jl"]) != c.code {
			t.Errorf("files %v", got.Files)
		}
		if again, err := prepare(t, r); err != nil || (again.Private == got.Private) != (c.script != "") {
			t.Errorf("what stands for the private folder is %q, and again (%v)", got.Private, err)
		}
		if !slices.Contains(got.Visible, filepath.Dir(bin)) {
			t.Errorf("what was found on the PATH is not shown: %v", got.Visible)
		}
	}
	got, err := prepare(t, Request{Kernel: "julia", Interactive: true, Project: dir, SearchEnv: map[string]string{"PATH": bin},
		Own: []Own{{Kernel: "julia", Commands: []string{"julia"}}}})
	if err != nil || strings.Join(got.Argv, "|") != bin+"/julia" {
		t.Errorf("the prompt is %v (%v)", got.Argv, err)
	}
}

// What an entry says replaces what is built in, and nothing else does.
func TestOwnEntryOfABuiltInKernel(t *testing.T) {
	dir := project(t)
	must(t, os.MkdirAll(filepath.Join(dir, ".venv", "bin"), 0o700))
	venv := filepath.Join(dir, ".venv", "bin", "python")
	must(t, os.WriteFile(venv, []byte("\x7fELF and so on"), 0o700))
	r := Request{Script: "good.py", Project: dir, Own: []Own{{Kernel: engine.Python3, Commands: []string{".venv/bin/python"}}}}
	got, err := prepare(t, r)
	must(t, err)
	if want := venv + "|-u|/clients/python/_muster/_runner.py|script|" + dir + "/good.py"; strings.Join(got.Argv, "|") != want || got.Env["PYTHONPATH"] == "" {
		t.Errorf("%v, %v", got.Argv, got.Env)
	}
	r.Own[0].Script = []string{"-X", "dev", "{file}"}
	got, err = prepare(t, r)
	must(t, err)
	if want := venv + "|-X|dev|" + dir + "/good.py"; strings.Join(got.Argv, "|") != want || got.Env["PYTHONPATH"] == "" {
		t.Errorf("%v, %v", got.Argv, got.Env)
	}
	tab := table(t)
	for script, want := range map[string]engine.Kernel{"a.py": "mine", "a.R": engine.R, "a.pyw": engine.Python3, "a.scala": engine.Scala} {
		own := []Own{{Kernel: "mine", Endings: []string{".py"}}, {Kernel: engine.Python3, Endings: []string{".pyw"}}}
		if k, ok := tab.ByEnding(script, own); !ok || k != want {
			t.Errorf("%s is %s", script, k)
		}
	}
	if k, _ := tab.ByEnding("a.py", nil); k != engine.Python3 {
		t.Errorf("the table itself was changed: a.py is %s", k)
	}
}

// A command by path shows engines nothing, and leads nowhere that they do not see: it may be an engine's writing.
func TestOwnCommandShowsNothing(t *testing.T) {
	dir := project(t)
	secret := filepath.Join(fakeBinary(t, "tool"), "tool") // in the host's /tmp, as the project is
	must(t, os.Symlink(secret, filepath.Join(dir, "link")))
	must(t, os.WriteFile(filepath.Join(dir, "tool"), []byte("\x7fELF and so on"), 0o700))
	for _, command := range []string{secret, "./link", "/run/nothing/tool", "/proc/self/exe"} {
		_, err := prepare(t, Request{Kernel: "x", Code: "1", Project: dir, Own: []Own{{Kernel: "x", Commands: []string{command}}}})
		if engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), "leads to a folder that engines do not see") {
			t.Errorf("%s: %v", command, err)
		}
	}
	for _, command := range []string{"./tool", "tool/../tool", "/bin/sh"} {
		got, err := prepare(t, Request{Kernel: "x", Code: "1", Project: dir, Own: []Own{{Kernel: "x", Commands: []string{command}}}})
		if err != nil || !slices.Equal(got.Visible, []string{"/clients"}) {
			t.Errorf("%s: shows %v (%v)", command, got.Visible, err)
		}
	}
	for _, command := range []string{"./missing", "./good.py", "folder.py/"} {
		_, err := prepare(t, Request{Kernel: "x", Code: "1", Project: dir, Own: []Own{{Kernel: "x", Commands: []string{command}}}})
		if engine.KindOf(err) != engine.Unavailable || err.Error() != "no interpreter for kernel x: "+command+" is no program that is there" ||
			!strings.Contains(engine.HintOf(err), "kernels.x.command") {
			t.Errorf("%s: %v (%s)", command, err, engine.HintOf(err))
		}
	}
}

// Whoever names an unknown kernel is told of the project's too.
func TestOwnKernelsAreOffered(t *testing.T) {
	_, err := prepare(t, Request{Kernel: "perl", Code: "1", Project: t.TempDir(), Own: []Own{{Kernel: "shell", Commands: []string{"/bin/sh"}}, {Kernel: "lua", Commands: []string{"no-lua"}}}})
	if hint := engine.HintOf(err); !strings.HasPrefix(hint, "name a kernel: shell (not installed: ") || !strings.Contains(hint, "lua") {
		t.Errorf("%v, hint %q", err, hint)
	}
}

// Jython is a script that names itself, by another path: it is its own interpreter.
func TestScriptThatIsItsOwnInterpreter(t *testing.T) {
	real := filepath.Join(t.TempDir(), "jython")
	must(t, os.WriteFile(real, []byte("#!/bin/sh\necho "+real+"\n"), 0o700))
	bin := t.TempDir()
	must(t, os.Symlink(real, filepath.Join(bin, "jython")))
	got, err := prepare(t, Request{Kernel: engine.Python2, Code: "1", Project: t.TempDir(), SearchEnv: map[string]string{"PATH": bin + ":/bin"}})
	if err != nil || got.Interpreter != bin+"/jython" {
		t.Errorf("%q, %v", got.Interpreter, err)
	}
}
