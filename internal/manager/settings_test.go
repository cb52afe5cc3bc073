package manager_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/kernel"
	"muster/internal/manager"
)

// settings writes the project's file.
func (b *bench) settings(content string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.project, "muster.toml"), []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// specs collects what the driver is asked to start.
func specs(into *[]driver.Spec) option {
	var mu sync.Mutex
	return func(_ *manager.Config, f *fake.Options) {
		f.Fail = func(step string, spec driver.Spec) error {
			if step == fake.StepAccept {
				mu.Lock()
				defer mu.Unlock()
				*into = append(*into, spec)
			}
			return nil
		}
	}
}

func variable(spec driver.Spec, name string) string {
	for _, kv := range spec.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return "(none)"
}

// A file that is wrong is told to whoever asks for a session, of any kind, and nothing is started.
func TestBadSettingsStartNothing(t *testing.T) {
	b := newBench(t)
	b.settings("[worker]\ncpu = \"two\"\n")
	for _, req := range []api.CreateSession{
		{Code: "hang"}, {TTY: &api.TerminalSize{Rows: 24, Cols: 80}}, {Kind: "attached", OwnerPID: os.Getpid()},
	} {
		req.Project = b.project
		_, err := b.CreateSession(t.Context(), req)
		want := "create session: " + b.project + "/muster.toml, line 2: worker.cpu must be a number of cores above 0, such as 0.5, not \"two\""
		if err == nil || err.Error() != want || engine.KindOf(err) != engine.Invalid || engine.HintOf(err) == "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if n := b.driver.World().Count()["places"]; n != 0 {
		t.Errorf("%d places", n)
	}
	b.settings("[limits]\nhard_cpu = true\n")
	_, err := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project})
	if err == nil || !strings.Contains(err.Error(), "asks for limits.hard_cpu, and CPU cannot be capped by the fake driver") {
		t.Errorf("%v", err)
	}
}

// Name, owner and variables, in descriptions and in every engine; the owner is a name and no user.
func TestNameOwnerAndVariables(t *testing.T) {
	var started []driver.Spec
	b := newBench(t, specs(&started))
	b.settings("name = \"Churn Model\"\nowner = \"Team A\"\n[environment]\nMODE = \"project\"\nPATH = \"/project/bin\"\nHOME = \"/elsewhere\"\n")
	id := b.sessionOf(api.CreateSession{Code: "hang", BaseEnv: map[string]string{"MODE": "caller", "PATH": "/bin"}})
	req := worker(1, "exit 0")
	b.launch(id, req)
	req.Env = map[string]string{"MODE": "launch"}
	b.launch(id, req)
	b.awaitEnd(id)
	if len(started) != 3 {
		t.Fatalf("%d engines", len(started))
	}
	for i, mode := range []string{"project", "project", "launch"} {
		for name, want := range map[string]string{
			"CDSW_PROJECT": "churn-model", "PROJECT_OWNER": "team-a", "CDSW_CREATOR": "ada", "USER": "ada", "MODE": mode,
			"HOME": "/elsewhere", "PATH": "/project/bin:/elsewhere/.local/bin",
		} {
			if got := variable(started[i], name); got != want {
				t.Errorf("engine %d: %s is %q, want %q", i, name, got, want)
			}
		}
		if url := variable(started[i], "CDSW_PROJECT_URL"); !strings.HasSuffix(url, "/api/v1/projects/team-a/churn-model") {
			t.Errorf("CDSW_PROJECT_URL is %s", url)
		}
	}
	w := b.engine(string(id))
	if w.Project.Name != "churn-model" || w.Project.Slug != "team-a/churn-model" || w.Owner.Username != "team-a" || w.Owner.Name != "Team A" ||
		w.Creator.Username != "ada" || w.Owner.ID == w.Creator.ID {
		t.Errorf("%+v", w)
	}
}

// Interpreters are looked up as if the project had no variables: engines may have written them.
func TestProjectsVariablesAreNotSearched(t *testing.T) {
	var asked kernel.Request
	b := newBench(t, func(c *manager.Config, _ *fake.Options) { c.Kernels = scripts{asked: &asked} })
	b.settings("[environment]\nPATH = \"/evil\"\nPYENV_ROOT = \"/evil\"\n[kernels.julia]\ncommand = \"julia\"\n")
	id := b.sessionOf(api.CreateSession{Code: "hang", BaseEnv: map[string]string{"PATH": "/bin"}})
	look := func(who string) {
		t.Helper()
		if asked.SearchEnv["PATH"] != "/bin:/home/ada/.local/bin" || asked.SearchEnv["PYENV_ROOT"] != "" || !strings.HasPrefix(asked.Env["PATH"], "/evil") {
			t.Errorf("%s: searched %v", who, asked.SearchEnv)
		}
		if len(asked.Own) != 1 || asked.Own[0].Kernel != "julia" {
			t.Errorf("%s: the project's kernels are %v", who, asked.Own)
		}
	}
	look("the session")
	asked = kernel.Request{}
	b.launch(id, worker(1, "exit 0"))
	look("a worker")
	b.awaitEnd(id)
}

// Sizes are filled in where none is asked for.
func TestDefaultSizes(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 24e9, CPU: 4, GPUs: []driver.GPU{{Index: 0}, {Index: 1}}}))
	size := func(w api.Worker) [3]float64 { return [3]float64{w.CPU, w.Memory, float64(w.GPUs)} }
	b.settings("[session]\ncpu = 2\nmemory = 3\ngpu = 1\n[worker]\ncpu = 0.5\nmemory = 0.25\n")
	id := b.session()
	if got := size(b.engine(string(id))); got != [3]float64{2, 3, 1} {
		t.Errorf("the session has %v", got)
	}
	if got := size(b.engine(string(b.sessionOf(api.CreateSession{Code: "hang", CPU: 1, Memory: 2, GPUs: 1})))); got != [3]float64{1, 2, 1} {
		t.Errorf("a session that asks has %v", got)
	}
	if got := size(b.launch(id, api.LaunchWorkers{N: 1, Code: "exit 0"})[0]); got != [3]float64{0.5, 0.25, 0} {
		t.Errorf("a worker has %v", got)
	}
	if got := size(b.launch(id, api.LaunchWorkers{N: 1, Code: "exit 0", Memory: 1, OrElse: true})[0]); got != [3]float64{0.5, 1, 0} {
		t.Errorf("a worker that asks for memory has %v", got)
	}
	b.settings("[worker]\nmemory = 0.25\n")
	other := b.session()
	if got := size(b.launch(other, api.LaunchWorkers{N: 1, Code: "exit 0", OrElse: true})[0]); got != [3]float64{1, 0.25, 0} {
		t.Errorf("a worker with half a default has %v", got)
	}
	if w := b.launch(other, api.LaunchWorkers{N: 1, Code: "exit 0"})[0]; w.ID != "" || !strings.Contains(w.Message, "cpu must be") {
		t.Errorf("a worker without any size: %+v", w)
	}
	b.awaitEnd(id)
}

// The limits are the project's, over all of its sessions; what ends makes room, and what is refused takes none.
func TestLimits(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 24e9, CPU: 4, GPUs: []driver.GPU{{Index: 0}, {Index: 1}}}))
	b.settings("[limits]\nworkers = 4\nmemory = 6\ncpu = 3\ngpu = 1\n")
	const hint = " (stop some of its engines, or change limits in muster.toml)"
	id := b.sessionOf(api.CreateSession{Code: "hang", Memory: 2})
	other := b.session()
	small := func(n int) api.LaunchWorkers {
		return api.LaunchWorkers{N: n, CPU: 0.1, Memory: 0.1, Code: "hang"}
	}
	first := b.launch(id, small(2))
	b.launch(other, small(2))
	b.refusedWith(id, small(1), "the project would have 5 workers, its settings allow 4"+hint)
	b.refusedWith(other, small(1), "the project would have 5 workers, its settings allow 4"+hint)
	b.awaitRunning(id, ids(first)...)
	b.stop(id, ids(first)...)
	b.awaitEnd(id, ids(first)...)
	b.refusedWith(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 3.9, Code: "hang"}, "the project would have 6.1 GB of memory, its settings allow 6 GB"+hint)
	b.refusedWith(id, api.LaunchWorkers{N: 1, CPU: 2.9, Memory: 0.1, Code: "hang"}, "the project would have 3.1 cores, its settings allow 3"+hint)
	b.refusedWith(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 0.1, GPUs: 2, Code: "hang"}, "the project would have 2 GPUs, its settings allow 1"+hint)
	if w := b.launch(id, api.LaunchWorkers{N: 2, CPU: 1.4, Memory: 1.9, Code: "hang"}); w[0].ID == "" || w[1].ID == "" {
		t.Errorf("there is room for exactly two: %+v", w)
	}
	_, err := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project, Memory: 1})
	if engine.KindOf(err) != engine.NoCapacity || err.Error() != "create session: the project would have 7 GB of memory, its settings allow 6 GB" {
		t.Errorf("%v", err)
	}
	elsewhere := b.sessionOf(api.CreateSession{Code: "hang", Project: t.TempDir()}) // another project
	if w := b.launch(elsewhere, small(9)); w[8].ID == "" {
		t.Errorf("%+v", w[8])
	}
	for _, s := range []engine.ID{id, other} {
		if err := b.EndSession(t.Context(), s, "owner"); err != nil {
			t.Fatal(err)
		}
	}
	again := b.sessionOf(api.CreateSession{Code: "hang", Memory: 5})
	if w := b.launch(again, small(4)); w[3].ID == "" {
		t.Errorf("nothing holds anything any more: %+v", w[3])
	}
}

// Hard CPU of the project's is told to the driver, where it can.
func TestProjectsHardCPU(t *testing.T) {
	var started []driver.Spec
	b := newBench(t, specs(&started), func(_ *manager.Config, f *fake.Options) {
		f.Claim = func(c *driver.Capabilities) { c.CPUCap = true }
	})
	b.session()
	b.settings("[limits]\nhard_cpu = true\n")
	id := b.session()
	b.launch(id, worker(1, "exit 0"))
	b.awaitEnd(id)
	if len(started) != 3 || started[0].HardCPU || !started[1].HardCPU || !started[2].HardCPU {
		t.Errorf("%d engines", len(started))
	}
}

// The home alias: scripts are found by it, and the driver is told, where engines are isolated; elsewhere it is said.
func TestHomeAlias(t *testing.T) {
	for _, isolated := range []bool{true, false} {
		var started []driver.Spec
		var asked kernel.Request
		b := newBench(t, specs(&started), func(c *manager.Config, f *fake.Options) {
			c.Kernels = scripts{asked: &asked}
			f.Claim = func(c *driver.Capabilities) { c.Isolation = isolated }
		})
		b.settings("home_alias = true\n")
		id := b.sessionOf(api.CreateSession{Kernel: "python3", Script: "/home/cdsw/a/b.py", Code: "hang"})
		if asked.Script != "a/b.py" {
			t.Errorf("the session's script is %q", asked.Script)
		}
		for script, want := range map[string]string{
			"/home/cdsw/w.py": "w.py", "/home/cdsw/../x.py": "/home/cdsw/../x.py", "/home/other/w.py": "/home/other/w.py", "w.py": "w.py",
		} {
			b.launch(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 1, Script: script, Code: "exit 0"})
			if asked.Script != want {
				t.Errorf("%s is looked for as %s", script, asked.Script)
			}
		}
		b.awaitEnd(id)
		alias := map[bool]string{true: "/home/cdsw"}[isolated]
		if len(started) != 5 || slices.ContainsFunc(started, func(s driver.Spec) bool { return s.Alias != alias || s.Dir != b.project }) {
			t.Errorf("isolated %v: %d engines, %q", isolated, len(started), started[0].Alias)
		}
		if told := b.messages(id, "notice"); (len(told) == 0) != isolated {
			t.Errorf("isolated %v: notices %q", isolated, told)
		}
	}
}

// Output that is older or larger than the settings keep goes when a session of the project ends; what lives, is another
// project's or was not asked about stays.
func TestLogsAreKeptAsTheSettingsSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var state string
		b := newBench(t, func(c *manager.Config, _ *fake.Options) { c.Ephemeral, state = false, c.StateDir })
		t.Cleanup(func() { os.RemoveAll(filepath.Join(state, "sessions")) })
		there := func() (list []string) {
			entries, _ := os.ReadDir(filepath.Join(state, "sessions"))
			for _, e := range entries {
				list = append(list, e.Name())
			}
			return list
		}
		ends := func(project string) string {
			id := b.sessionOf(api.CreateSession{Code: "hang", Project: project})
			if err := b.EndSession(t.Context(), id, "owner"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return string(id)
		}
		age := func(id string, days int) {
			at := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
			filepath.WalkDir(filepath.Join(state, "sessions", id), func(path string, _ os.DirEntry, _ error) error {
				return os.Chtimes(path, at, at)
			})
		}
		stranger := ends(t.TempDir())
		old, young := ends(""), ends("")
		lives := string(b.session())
		for _, id := range []string{stranger, old, lives} {
			age(id, 31)
		}
		age(young, 29)
		if n := len(there()); n != 4 {
			t.Fatalf("%d folders without settings", n)
		}
		b.settings("[logs]\ndays = 30\n")
		last := ends("")
		if got := there(); slices.Contains(got, old) || len(got) != 4 || !slices.Contains(got, stranger) || !slices.Contains(got, lives) || !slices.Contains(got, young) {
			t.Errorf("left are %v", got)
		}
		if _, err := b.Session(engine.ID(old)); engine.KindOf(err) != engine.NotFound {
			t.Errorf("the session without a console is still known: %v", err)
		}
		if out := b.output(engine.ID(young), "", console.Event); out == "" {
			t.Error("nothing is left of the younger one")
		}
		// By size: the oldest first, and never the one that just ended.
		big := filepath.Join(state, "sessions", young, "console", "big")
		if err := os.WriteFile(big, make([]byte, 3_000_000), 0o600); err != nil {
			t.Fatal(err)
		}
		age(young, 1)
		b.settings("[logs]\nsize = 0.002\n")
		newest := ends("")
		got := there()
		if slices.Contains(got, young) || !slices.Contains(got, last) || !slices.Contains(got, newest) || !slices.Contains(got, lives) || !slices.Contains(got, stranger) {
			t.Errorf("left are %v", got)
		}
		if err := b.EndSession(t.Context(), engine.ID(lives), "owner"); err != nil {
			t.Fatal(err)
		}
	})
}
