package project

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/kernel"
)

// folder makes a project with the settings.
func folder(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Each key, alone: what is read of it, and that nothing else is.
func TestEachKey(t *testing.T) {
	for _, c := range []struct {
		content string
		want    Settings
	}{
		{"", Settings{}},
		{"# a comment\n\n", Settings{}},
		{`name = "Churn Modell ä"`, Settings{Name: "Churn Modell ä"}},
		{`owner = "team-a"`, Settings{Owner: "team-a"}},
		{"home_alias = true", Settings{HomeAlias: true}},
		{"home_alias = false", Settings{}},
		{"[environment]\nMODE = \"test\"\nEMPTY = \"\"\nMUSTER_SSH = \"off\"\n\"a.b\" = '\\'", Settings{
			Environment: map[string]string{"MODE": "test", "EMPTY": "", "MUSTER_SSH": "off", "a.b": `\`}}},
		{"[session]\ncpu = 2\nmemory = 1.5\ngpu = 1", Settings{Session: Size{2, 1.5, 1}}},
		{"session = {cpu = 0.25}", Settings{Session: Size{CPU: 0.25}}},
		{"worker.cpu = 0.5\nworker.memory = 1\nworker.gpu = 0", Settings{Worker: Size{0.5, 1, 0}}},
		{"[limits]\nworkers = 3\ncpu = 1.5\nmemory = 8\ngpu = 2\nhard_cpu = true", Settings{Limits: Limits{3, 1.5, 8, 2, true}}},
		{"[logs]\ndays = 30\nsize = 0.5", Settings{Logs: Logs{30, 0.5}}},
		{"[kernels.julia]\ncommand = \"julia\"\nendings = [\".JL\", \".jl2\"]\nscript = [\"--q\", \"{file}\"]\ncode = [\"-e\", \"{code}\"]", Settings{
			Kernels: []kernel.Own{{
				Kernel: "julia", Commands: []string{"julia"}, Endings: []string{".jl", ".jl2"},
				Script: []string{"--q", "{file}"}, Code: []string{"-e", "{code}"},
			}}}},
		{"[kernels]\npython3.command = [\".venv/bin/python\", \"/usr/bin/python3\"]\nlua = {command = \"lua\"}", Settings{
			Kernels: []kernel.Own{{Kernel: "lua", Commands: []string{"lua"}}, {Kernel: "python3", Commands: []string{".venv/bin/python", "/usr/bin/python3"}}}}},
		{"[kernels.python3]\nendings = \".pyw\"", Settings{Kernels: []kernel.Own{{Kernel: "python3", Endings: []string{".pyw"}}}}},
	} {
		got, there, err := Read(folder(t, c.content))
		if err != nil || !there {
			t.Errorf("%s\n%v, %v", c.content, there, err)
			continue
		}
		if len(got.Environment) == 0 {
			got.Environment = nil
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.content, got, c.want)
		}
	}
}

// Each wrong input names file, line, key and what is wanted.
func TestBadInput(t *testing.T) {
	const cores, gigabytes = "must be a number of cores above 0, such as 0.5, not ", "must be a number of gigabytes above 0, such as 1.5, not "
	for _, c := range []struct{ content, want string }{
		{"nmae = \"x\"", "line 1: nmae is no setting; here may stand: name, owner, home_alias, environment, session, worker, preload, kernels, limits, logs"},
		{"\n\n[wroker]\ncpu = 1", "line 3: wroker is no setting; "},
		{"[worker]\ncpu = 1\ncpus = 2", "line 3: worker.cpus is no setting; here may stand: cpu, memory, gpu"},
		{"[limits]\n\nworker = 2", "line 3: limits.worker is no setting; here may stand: workers, cpu, memory, gpu, hard_cpu"},
		{"[logs]\nage = 1", "line 2: logs.age is no setting; here may stand: days, size"},
		{"[kernels.x]\ncommand = \"x\"\nargs = []", "line 3: kernels.x.args is no setting; here may stand: command, endings, script, code"},
		{"worker = {\n  cpu = 1,\n  cpus = 2 }", "line 3: worker.cpus is no setting; "},
		{"name = 7", "line 1: name must be a name, not 7"},
		{"name = \"\"", `line 1: name must be a name, not ""`},
		{"name = \"a\\nb\"", `line 1: name must be a name, not "a\nb"`},
		{"owner = [\"a\"]", "line 1: owner must be a name, not a list"},
		{"owner = \"../..\"", `line 1: owner must be a name, not "../.."`},
		{"home_alias = \"yes\"", `line 1: home_alias must be true or false, not "yes"`},
		{"environment = 3", "line 1: environment must be a table, which is written [environment], not 3"},
		{"[environment]\nA = 1", `line 2: environment.A must be text in quotes, such as "1", not 1`},
		{"[environment]\nA.B = \"x\"", `line 2: environment.A must be text in quotes, such as "1", not a table`},
		{"[environment]\nA = \"x\\u0000\"", "line 2: environment.A must be text without NUL bytes"},
		{"[environment]\n\"A=B\" = \"x\"", "line 2: environment.A=B cannot be the name of a variable"},
		{"[environment]\n\"\" = \"x\"", "line 2: environment. cannot be the name of a variable"},
		{"[environment]\nOK = \"1\"\nCDSW_ENGINE_ID = \"x\"", "line 3: environment.CDSW_ENGINE_ID is a variable that Muster sets for each engine: take it out"},
		{"[environment]\nMUSTER_URL = \"x\"", "line 2: environment.MUSTER_URL is a variable that Muster sets"},
		{"[environment]\nPROJECT_OWNER = \"x\"", "line 2: environment.PROJECT_OWNER is a variable that Muster sets"},
		{"[worker]\ncpu = \"two\"", "line 2: worker.cpu " + cores + `"two"`},
		{"[worker]\ncpu = 0", "line 2: worker.cpu " + cores + "0"},
		{"[worker]\ncpu = -1.5", "line 2: worker.cpu " + cores + "-1.5"},
		{"[worker]\ncpu = nan", "line 2: worker.cpu " + cores + "NaN"},
		{"[worker]\ncpu = inf", "line 2: worker.cpu " + cores + "+Inf"},
		{"[session]\nmemory = true", "line 2: session.memory " + gigabytes + "true"},
		{"[session]\nmemory = 0.001", "line 2: session.memory must be 0.004 gigabytes (4 MB) or more, not 0.001"},
		{"[session]\ngpu = -1", "line 2: session.gpu must be a whole number of GPUs, 0 or more, not -1"},
		{"[session]\ngpu = 0.5", "line 2: session.gpu must be a whole number of GPUs, 0 or more, not 0.5"},
		{"session = []", "line 1: session must be a table, which is written [session], not an empty list"},
		{"[[limits]]\ncpu = 1", "line 1: limits must be a table, which is written [limits], not a list"},
		{"[limits]\nworkers = 0", "line 2: limits.workers must be a whole number of workers, 1 or more, not 0"},
		{"[limits]\nworkers = 1e3", "line 2: limits.workers must be a whole number of workers, 1 or more, not 1000"},
		{"[limits]\ncpu = 1979-05-27", "line 2: limits.cpu " + cores + "1979-05-27"},
		{"[limits]\nmemory = 0", "line 2: limits.memory " + gigabytes + "0"},
		{"[limits]\ngpu = 0", "line 2: limits.gpu must be a whole number of GPUs, 1 or more, not 0"},
		{"[limits]\nhard_cpu = 1", "line 2: limits.hard_cpu must be true or false, not 1"},
		{"[logs]\ndays = 0", "line 2: logs.days must be a whole number of days, 1 or more, not 0"},
		{"[logs]\ndays = 0.5", "line 2: logs.days must be a whole number of days, 1 or more, not 0.5"},
		{"[logs]\nsize = \"1 GB\"", "line 2: logs.size " + gigabytes + `"1 GB"`},
		{"kernels = \"x\"", "line 1: kernels must be a table, which is written [kernels], not \"x\""},
		{"[kernels]\njulia = \"julia\"", "line 2: kernels.julia must be a table, which is written [kernels.julia], not \"julia\""},
		{"[kernels.julia]\nendings = [\".jl\"]", `line 1: kernels.julia needs command, the program that runs it, such as command = "julia"`},
		{"[kernels.python]\ncommand = \"x\"", "line 1: kernels.python is called python3 here"},
		{"[kernels.\"My Kernel\"]\ncommand = \"x\"", "line 1: kernels.My Kernel is no name for a kernel"},
		{"[kernels.x]\ncommand = 1", "line 2: kernels.x.command must be a program's name or path, or a list of them, not 1"},
		{"[kernels.x]\ncommand = [\"a\", 1]", "line 2: kernels.x.command must be a program's name or path, or a list of them, not 1"},
		{"[kernels.x]\ncommand = []", "line 2: kernels.x.command must be a program's name or path, or a list of them, not an empty list"},
		{"[kernels.x]\ncommand = \"../x\"", `line 2: kernels.x.command must be a program's name or path, or a list of them, not "../x"`},
		{"[kernels.x]\ncommand = \"x\"\nendings = [\"jl\"]", "line 3: kernels.x.endings must be endings of scripts' names, such as [\".jl\"], not \"jl\""},
		{"[kernels.x]\ncommand = \"x\"\nendings = [\".\"]", "line 3: kernels.x.endings must be endings"},
		{"[kernels.x]\ncommand = \"x\"\nendings = [\".jl\"]\n[kernels.y]\ncommand = \"y\"\nendings = [\".JL\"]", "line 6: kernels.y.endings has .JL, which kernel x has too"},
		{"[kernels.x]\ncommand = \"x\"\nscript = [\"-f\"]", `line 3: kernels.x.script must have "{file}" where the script's path is to stand`},
		{"[kernels.x]\ncommand = \"x\"\ncode = [\"-e\"]", `line 3: kernels.x.code must have "{code}", or "{file}" for a file that holds the code`},
		{"preload = [\"os;x\"]", `line 1: preload must be names of Python modules, such as ["numpy"], not "os;x"`},
		{"name = \"x", "line 1: this is not TOML: "},
		{"name = \"x\"\nname = \"y\"", "line 2: this is not TOML: "},
		{"a b", "line 1: this is not TOML: "},
		{"\xff", "line 1: this is not TOML: "},
		{"zzz = 1\nname = 1", "line 1: zzz is no setting"}, // the first in the file, not of the alphabet
	} {
		dir := folder(t, c.content)
		_, there, err := Read(dir)
		if err == nil || !there || engine.KindOf(err) != engine.Invalid || !strings.HasPrefix(err.Error(), dir+"/muster.toml, "+c.want) {
			t.Errorf("%q\n got %v\nwant %s", c.content, err, c.want)
			continue
		}
		if !strings.Contains(engine.HintOf(err), "correct the line") {
			t.Errorf("%q: the hint is %q", c.content, engine.HintOf(err))
		}
	}
}

// What engines may have put there is not followed, waited for or read without end.
func TestNoFileOfThatKind(t *testing.T) {
	none := t.TempDir()
	if s, there, err := Read(none); there || err != nil || !reflect.DeepEqual(s, Settings{}) {
		t.Errorf("no file: %+v, %v, %v", s, there, err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret words"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a link":   {func(p string) error { return os.Symlink(secret, p) }, "it is a symbolic link, and only the project's own file is read"},
		"a FIFO":   {func(p string) error { return syscall.Mkfifo(p, 0o600) }, "it is no regular file (p---------)"},
		"a folder": {func(p string) error { return os.Mkdir(p, 0o700) }, "it is no regular file (d---------)"},
		"too much": {func(p string) error { return os.WriteFile(p, make([]byte, maxFile+1), 0o600) }, "it has more than 256 kB"},
	} {
		dir := t.TempDir()
		if err := c.make(filepath.Join(dir, FileName)); err != nil {
			t.Fatal(err)
		}
		_, there, err := Read(dir)
		want := "the settings " + dir + "/muster.toml cannot be used: " + c.want
		if !there || err == nil || err.Error() != want || engine.HintOf(err) == "" {
			t.Errorf("%s:\n got %v\nwant %s", name, err, want)
		}
	}
}

// A folder that the user may not enter is what is wrong, and not the settings in it, which may not even be there.
func TestFolderOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: only root takes another user's rights")
	}
	const nobody = 20001
	dir := folder(t, "") // t.TempDir's own folder is root's alone
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	as := func() error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		unix.SetfsuidRetUid(nobody)
		defer unix.SetfsuidRetUid(0)
		_, _, err := Read(dir)
		return err
	}
	if err := as(); err == nil || !strings.HasPrefix(err.Error(), "the settings "+dir+"/muster.toml cannot be used") {
		t.Errorf("a file of another's: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := as()
	if want := "you may not look into the project folder " + dir + ": permission denied"; err == nil || err.Error() != want || !strings.Contains(engine.HintOf(err), "--project") {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// The sample of docs/settings.md says every key, and is right.
func TestSampleOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	samples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(samples) != 1 {
		t.Fatalf("%d samples", len(samples))
	}
	s, _, err := Read(folder(t, samples[0][1]))
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Name: "churn", Owner: "team-a", HomeAlias: true, Environment: map[string]string{"MODE": "test", "DATA": "/data/2024"},
		Session: Size{1, 4, 0}, Worker: Size{0.5, 1, 0}, Preload: []string{"numpy", "pandas"},
		Kernels: []kernel.Own{
			{Kernel: "python3", Commands: []string{"/usr/bin/python3"}},
			{
				Kernel: "shell", Commands: []string{"bash", "sh"}, Endings: []string{".sh"},
				Script: []string{"-e", "{file}"}, Code: []string{"-ec", "{code}"},
			},
		},
		Limits: Limits{20, 8, 16, 1, false}, Logs: Logs{30, 2},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf(" got %+v\nwant %+v", s, want)
	}
	// It says every key that the reader knows.
	for _, key := range []string{
		"name", "owner", "home_alias", "[environment]", "[session]", "[worker]", "[kernels.shell]", "command", "endings", "script",
		"code", "[limits]", "workers", "cpu", "memory", "gpu", "hard_cpu", "[logs]", "days", "size",
	} {
		if !strings.Contains(samples[0][1], "\n"+key) && !strings.HasPrefix(samples[0][1], key) {
			t.Errorf("the sample lacks %s", key)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("name = \"x\"\n[kernels.x]\ncommand = 'a'\n[[limits]]\n")
	f.Add("a = {b = {c = [1, {d = 2}]}}\n")
	f.Fuzz(func(t *testing.T, content string) {
		if _, p := parse([]byte(content)); p != nil && (p.line < 1 || p.text == "") {
			t.Errorf("%q: %v", content, p)
		}
	})
}
