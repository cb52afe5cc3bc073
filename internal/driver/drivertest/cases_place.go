package drivertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"muster/engine"
	"muster/internal/console"
)

var placeCases = []testCase{
	{"environment is exactly the given one", "", environment},
	{"working directory", "", workingDir},
	{"a working directory that is missing fails the launch", "", missingDir},
	{"private files", "", privateFiles},
	{"the project is live in all engines", "Isolation", liveProject},
	{"a second path to the project", "Isolation", alias},
	{"private /tmp", "Isolation", privateTmp},
	{"own processes only", "Isolation", ownProcesses},
	{"hostname resolves to the own address", "OwnAddress", hostname},
}

func environment(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(PrintEnv{})
	spec.Env = append(spec.Env, "CDSW_ENGINE_ID="+string(spec.ID), "EMPTY=", "TWO=a=b", "LINE=ünïcödé 'quoted' $HOME", "PLAIN="+Private)
	want := slices.Clone(spec.Env)
	slices.Sort(want)
	p.start(spec)
	p.awaitExit(spec.ID)
	got := strings.Split(strings.TrimSuffix(p.text(spec.ID, console.Stdout), "\n"), "\n")
	got = slices.DeleteFunc(got, func(kv string) bool {
		// Python's own doing, and the folder that engines get in place of a /tmp of their own.
		return strings.HasPrefix(kv, "LC_CTYPE=") || !w.d.Capabilities().Isolation && strings.HasPrefix(kv, "TMPDIR=")
	})
	if !slices.Equal(got, want) {
		w.t.Errorf("environment %q, want %q", got, want)
	}
}

func workingDir(w *world) {
	p := w.open()
	p.startMain()
	spec, _ := p.run(PrintDir{})
	p.expectStdout(spec.ID, p.project+"\n")
}

func missingDir(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Print{"never"})
	spec.Dir = filepath.Join(p.project, "missing")
	if err := p.s.Start(w.t.Context(), p.works(append(specs(spec), p.worker(Print{"sibling"}))))[0]; err != nil {
		p.s.Release(spec.Address)
		return // refused at once is as good
	}
	e := p.awaitExit(spec.ID)
	if e.Reason != engine.ReasonLaunchFailed || e.Step == "" || !strings.Contains(e.Message, "missing") {
		w.t.Errorf("exit %+v, want launch failed with its step and the folder's name", e)
	}
	p.expectStdout(spec.ID, "")
}

// privateFiles runs a program of Spec.Files: every program of a factory that has Files shows it; here two at a time.
func privateFiles(w *world) {
	p := w.open()
	p.startMain()
	a, b := p.worker(Print{"a"}), p.worker(Print{"b"})
	p.start(a, b)
	p.awaitExit(a.ID)
	p.awaitExit(b.ID)
	p.expectStdout(a.ID, "a\n")
	p.expectStdout(b.ID, "b\n")
}

func liveProject(w *world) {
	p := w.open()
	p.startMain()
	file := filepath.Join(p.project, "from-a-worker")
	p.run(WriteFile{file, "hello"})
	if b, err := os.ReadFile(file); err != nil || string(b) != "hello" {
		w.t.Errorf("outside: %q, %v", b, err)
	}
	spec, _ := p.run(Exists{file})
	p.expectStdout(spec.ID, "yes "+file+"\n")
}

func alias(w *world) {
	p := w.open()
	p.startMain()
	const second = "/home/drivertest-alias"
	spec := p.worker(WriteFile{second + "/by-alias", "hello"}, PrintDir{})
	spec.Alias = second
	p.start(spec)
	p.awaitExit(spec.ID)
	p.expectStdout(spec.ID, p.project+"\n")
	if b, err := os.ReadFile(filepath.Join(p.project, "by-alias")); err != nil || string(b) != "hello" {
		w.t.Errorf("outside: %q, %v", b, err)
	}
	if _, err := os.Lstat(second); err == nil {
		w.t.Errorf("%s came out of the engine", second)
	}
	other, _ := p.run(Exists{second})
	p.expectStdout(other.ID, "no "+second+"\n")
}

func privateTmp(w *world) {
	p := w.open()
	p.startMain()
	name := fmt.Sprintf("/tmp/drivertest-%s", p.spec.ID)
	a, _ := p.run(WriteFile{name, "mine"}, Exists{name})
	p.expectStdout(a.ID, "yes "+name+"\n")
	b, _ := p.run(Exists{name})
	p.expectStdout(b.ID, "no "+name+"\n")
	if _, err := os.Stat(name); err == nil {
		w.t.Errorf("%s came out of the engine", name)
		os.Remove(name)
	}
}

func ownProcesses(w *world) {
	p := w.open()
	p.startMain()
	other := p.worker(Print{"ready"}, Hang{})
	p.start(other)
	p.awaitText(other.ID, "ready\n")
	spec, _ := p.run(CountProcesses{})
	var n int
	if _, err := fmt.Sscanf(p.text(spec.ID, console.Stdout), "processes %d", &n); err != nil || n < 1 || n > 2 {
		w.t.Errorf("%q: an engine sees its init and itself, nothing else (%v)", p.text(spec.ID, console.Stdout), err)
	}
}

func hostname(w *world) {
	p := w.open()
	p.startMain()
	spec, _ := p.run(PrintHost{})
	p.expectStdout(spec.ID, spec.Hostname+" "+spec.Address.String()+"\n")
}
