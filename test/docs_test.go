package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every command and sample of the documents is run. A block that no case here knows fails the test, so that a new one
// cannot be added unproven.

// readmeCommands maps the first words of each indented command line of README.md to how it is proven.
var readmeCommands = map[string]string{
	"make demo":           "run by make demo itself, twice, in scripts/fresh",
	"make test":           "this very run",
	"make build":          "run before this test",
	"bin/muster run":      "TestReadmeCommands",
	"muster up":           "TestReadmeCommands",
	"muster up --replace": "TestServerReplaced",
	"muster run train.py": "TestReadmeCommands",
	"muster ps":           "TestReadmeCommands",
	"muster logs -f ID":   "TestReadmeCommands",
	"muster stop ID":      "TestReadmeCommands",
	"muster restart ID":   "TestRetriesFromOutside",
	"muster doctor":       "TestReadmeCommands",
	"muster open":         "TestReadmeWebApp",
	"muster session":      "TestSessionPythonPlain, TestSessionIPython",

	"muster clients install                      # for the python3": "TestInstallPython (package clients)",
	"muster clients install --python .venv/bin/python":              "TestClientPython",
	"muster clients install --r":                                    "TestClientR",
}

func TestReadmeNamesNoUnprovenCommand(t *testing.T) {
	for _, l := range lines(read(t, "README.md")) {
		command, ok := strings.CutPrefix(l, "    ")
		if !ok || strings.HasPrefix(command, " ") {
			continue
		}
		proven := false
		for prefix := range readmeCommands {
			proven = proven || strings.HasPrefix(command, prefix)
		}
		if !proven {
			t.Errorf("README.md names a command that no test runs: %s", command)
		}
	}
}

// The commands of README.md in its order, in a folder that looks like a clone.
func TestReadmeCommands(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	os.Symlink(filepath.Join(repo(t), "examples"), filepath.Join(w.project, "examples"))
	w.muster("run", "examples/hello/hello.py").ok(t)
	up := w.server()
	w.write("train.py", "import cdsw, sys\nws = cdsw.launch_workers(n=1, cpu=0.1, memory=0.1, name='w', code='import time; print(\"working\"); time.sleep(1000)')\nprint('training', flush=True)\ncdsw.await_workers(ws, timeout_seconds=0)\n")
	b := w.start("run", "train.py")
	b.await("[w] working")
	ps := w.muster("ps").ok(t)
	ids := regexp.MustCompile(`(?m)^(\w+)\s`).FindAllStringSubmatch(ps.out, -1)
	if len(ids) != 3 || !strings.Contains(ps.out, "running") { // the heading, the session, the worker
		t.Fatalf("ps shows\n%s", ps.out)
	}
	session, worker := ids[1][1], ids[2][1]
	follow := w.start("logs", "-f", session)
	follow.await("[w] working")
	raw := w.start("logs", "-f", worker)
	raw.await("working")
	if strings.Contains(raw.output(), "[") {
		t.Errorf("a worker's own log is labelled: %s", raw.output())
	}
	w.muster("stop", worker).ok(t)
	if code := raw.wait(); code != 0 {
		t.Errorf("logs -f of the stopped worker ended with %d", code)
	}
	b.wait()
	follow.wait()
	w.muster("doctor").ok(t).has(t, "network namespaces", "limit memory", "kernel python3", "kernel r")
	_ = up
}

// readmeSamples are the Python samples of README.md.
func readmeSamples(t *testing.T) [][]string {
	t.Helper()
	blocks := regexp.MustCompile("(?s)```python\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) != 3 {
		t.Fatalf("%d Python samples in README.md, these tests know three", len(blocks))
	}
	return blocks
}

// The first Python sample of README.md runs as it stands.
func TestReadmeSample(t *testing.T) {
	w := newWorld(t)
	r := w.script(readmeSamples(t)[0][1]).ok(t)
	if strings.Count(r.out, "hello from 100.") != 2 {
		t.Errorf("stdout: %s", r.out)
	}
	r.has(t, "2 succeeded, 0 failed")
}

// The second tries again what fails, and starts again what has ended.
func TestReadmeRetries(t *testing.T) {
	w := newWorld(t)
	for range 2 { // the second run finds what the first one left
		r := w.script(readmeSamples(t)[1][1]).ok(t)
		r.has(t, "2 attempts; the first one printed: first attempt\n", "1 has succeeded once more\n")
		if strings.Contains(r.out, "\n\n") {
			t.Errorf("an empty line: %q", r.out)
		}
	}
}

// The third serves a web app, which the commands below it lead to.
func TestReadmeWebApp(t *testing.T) {
	w := newWorld(t)
	w.server("--web", "127.0.0.1:0")
	w.write("app.py", readmeSamples(t)[2][1])
	w.write("index.html", "<h1>an app</h1>")
	m := w.start("run", "app.py").match(`serving at (http://(\w+)\.(localhost:\d+)/)`)
	link := strings.TrimSpace(w.muster("open", m[1]).ok(t).out)
	b := newBrowser(t)
	until(t, "the app is there", func() bool { return b.open(link).StatusCode == 200 })
	if p := b.open(m[0]); p.text != "<h1>an app</h1>" {
		t.Errorf("%s: %s", p.at, p.text)
	}
	token, err := os.ReadFile(filepath.Join(w.root, "run", "token"))
	if err != nil {
		t.Fatal(err)
	}
	newBrowser(t).ask("GET", "http://"+m[2]+"/app/"+m[1]+"/", "", "Authorization: Bearer "+strings.TrimSpace(string(token))).has(t, 200, "an app")
	open := strings.TrimSpace(w.muster("open", "--public", m[1]).ok(t).out)
	newBrowser(t).open(open).has(t, 503, "Nothing listens yet", "$CDSW_PUBLIC_PORT")
}

// Every command of examples/README.md.
func TestExamplesReadme(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	os.Symlink(filepath.Join(repo(t), "examples"), filepath.Join(w.project, "examples"))
	commands := regexp.MustCompile("`muster (run [^`]+)`").FindAllStringSubmatch(read(t, "examples/README.md"), -1)
	if len(commands) < 5 {
		t.Fatalf("%d commands in examples/README.md", len(commands))
	}
	for _, c := range commands {
		w.muster(strings.Fields(c[1])...).ok(t)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repo(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Help is there for every command, with an example, and completion scripts are valid shell.
func TestHelpAndCompletion(t *testing.T) {
	w := newWorld(t)
	help := w.muster("--help").ok(t)
	for _, c := range []string{"run", "up", "ps", "logs", "stop", "restart", "launch", "await", "open", "doctor", "version", "completion"} {
		help.has(t, c)
		if r := w.muster(c, "--help").ok(t); c != "completion" && !strings.Contains(r.out, "Example") {
			t.Errorf("muster %s --help has no example", c)
		}
	}
	script := w.muster("completion", "bash").ok(t)
	w.write("complete.sh", script.out)
	w.write("check.py", "import subprocess, sys\nsys.exit(subprocess.call(['bash', '-n', 'complete.sh']))\n")
	w.muster("run", "check.py").ok(t)
}
