package cli

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares what was printed with testdata/NAME.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s", path, got)
	}
}

// each of our commands, with cobra's own left out.
func commands(a *app) (all []*cobra.Command) {
	return below(newRoot(a))
}

func below(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			all = append(all, below(c)...)
		}
	}
	return all
}

func TestHelp(t *testing.T) {
	w := newWorld(t)
	files := map[string]bool{}
	for _, c := range commands(&app{}) {
		if c.Example == "" || c.Short == "" || c.Long == "" {
			t.Errorf("%s lacks an example or a text", c.CommandPath())
		}
		w.out.Reset()
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if code := w.run(args...); code != 0 {
			t.Errorf("%q ends with %d", args, code)
		}
		name := "help_" + strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), "muster "), " ", "_") + ".txt"
		files[name] = true
		golden(t, name, w.out.String())
	}
	there, _ := filepath.Glob("testdata/help_*.txt")
	for _, f := range there {
		if !files[filepath.Base(f)] {
			t.Errorf("%s is of no command", f)
		}
	}
}

// No line of the help is wider than a terminal may be.
func TestHelpIsNarrow(t *testing.T) {
	files, _ := filepath.Glob("testdata/help_*.txt")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for line := range strings.SplitSeq(string(b), "\n") {
			if len([]rune(line)) > 130 {
				t.Errorf("%s: %q", f, line)
			}
		}
	}
}

func TestWrongUsage(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		args    []string
		message string
		hint    string
	}{
		{[]string{"luanch"}, `there is no command "luanch"`, "muster launch"},
		{[]string{"p"}, `there is no command "p"`, "muster up, muster ps"},
		{[]string{"xyzzy"}, `there is no command "xyzzy"`, "muster --help"},
		{[]string{"ps", "--nope"}, "unknown flag: --nope", "muster ps --help"},
		{[]string{"ps", "x"}, `ps takes no arguments, and was given "x"`, "muster ps --help"},
		{[]string{"run"}, "run needs a FILE, or code with -c", "muster run --help"},
		{[]string{"run", "--cpu", "many", "x.py"}, `--cpu is "many": it must be a number`, "muster run --help"},
		{[]string{"run", "--gpu", "0.5", "x.py"}, `--gpu is "0.5": it must be a whole number`, "muster run --help"},
		{[]string{"run", "--cpu", "nan", "x.py"}, "--cpu is NaN: it must be a number", "muster run --help"},
		{[]string{"run", "--cpu", "-1", "x.py"}, "--cpu is -1: it must be more than 0", "muster run --help"},
		{[]string{"run", "--memory", "0", "x.py"}, "--memory is 0: it must be more than 0", "muster run --help"},
		{[]string{"run", "--gpu", "-1", "x.py"}, "--gpu is -1: it must be 0 or more", "muster run --help"},
		{[]string{"launch", "--gpu", "-1", "x.py"}, "--gpu is -1: it must be 0 or more", "muster launch --help"},
		{[]string{"run", "--env", "NOPE", "x.py"}, "--env NOPE: there is no NOPE in your environment; write NOPE=VALUE", "muster run --help"},
		{[]string{"run", "--env", "=1", "x.py"}, `--env "=1": write NAME=VALUE, as UTF-8`, "muster run --help"},
		{[]string{"run", "-c", "\xff"}, `"\xff" is not UTF-8`, "muster run --help"},
		{[]string{"launch", "-c", "1", "x.py"}, "launch needs a FILE or -c CODE, and was given both", "muster launch --help"},
		{[]string{"launch"}, "launch needs one FILE, or code with -c", "muster launch --help"},
		{[]string{"launch", "x.py"}, "which session? This is no engine, so it must be named", "muster ps, and then --session ID"},
		{[]string{"await"}, "which session? This is no engine, so it must be named", "muster ps, and then: muster await ID of workers, or --session ID for all of a session"},
		{[]string{"logs"}, "which session? This is no engine, so it must be named", "muster ps -a, and then: muster logs ID"},
		{[]string{"await", "--timeout", "-1s"}, "--timeout is -1s: it must not be negative", "muster await --help"},
		{[]string{"stop"}, "stop needs ids, or --all and no ids", "muster stop --help"},
		{[]string{"stop", "--all", "x"}, "stop needs ids, or --all and no ids", "muster stop --help"},
		{[]string{"logs", "a", "b"}, "logs shows one session or worker, and was given 2", "muster logs --help"},
		{[]string{"logs", "--stream", "up", "a"}, `--stream is "up": it must be stdout or stderr (with --json also event)`, "muster logs --help"},
		{[]string{"logs", "--stream", "event", "a"}, `--stream is "event": it must be stdout or stderr (with --json also event)`, "muster logs --help"},
		{[]string{"run", "--memory", "500MB", "x.py"}, `--memory is "500MB": it must be a number of GB, for instance 0.5`, "muster run --help"},
		{[]string{"run", "--memory", "inf", "x.py"}, "--memory is +Inf: it must be a number of GB, for instance 0.5", "muster run --help"},
		{[]string{"up", "--memory-capacity", "16G"}, `--memory-capacity is "16G": it must be a number of GB, for instance 0.5`, "muster up --help"},
		{[]string{"run", "-n", "-"}, "with - the code is read from stdin, and --no-stdin says not to", "muster run --help"},
		{[]string{"run", "/dev/stdin"}, "/dev/stdin is a stream of this command, which the engine that runs the code cannot open",
			"code from stdin, with - in place of the file: … | muster run -"},
		{[]string{"run", "/dev/fd/63"}, "/dev/fd/63 is a stream of this command, which the engine that runs the code cannot open",
			"code from stdin, with - in place of the file: … | muster run -"},
		{[]string{"launch", "-n", "0", "x.py"}, "--number is 0: it must be 1 or more", "muster launch --help"},
		{[]string{"launch", "-n", "-3", "x.py"}, "--number is -3: it must be 1 or more", "muster launch --help"},
		{[]string{"launch", "-n", "2.5", "x.py"}, `--number is "2.5": it must be a whole number`, "muster launch --help"},
		{[]string{"launch", "--group", "", "x.py"}, "--group is empty: give a name, or leave it out", "muster launch --help"},
		{[]string{"await", "--group="}, "--group is empty: give a name, or leave it out", "muster await --help"},
		{[]string{"stop", "--all", "--group="}, "--group is empty: give a name, or leave it out", "muster stop --help"},
		{[]string{"ps", "--group="}, "--group is empty: give a name, or leave it out", "muster ps --help"},
		{[]string{"launch", "--time-limit", "999999h", "x.py"}, "--time-limit is 999999h0m0s: it must be at most ten years (87600h)", "muster launch --help"},
		{[]string{"up", "--state-dir", "kept"}, `--state-dir is "kept": it must be an absolute path, which means the same from everywhere`, "muster up --help"},
		{[]string{"up", "--state-dir="}, `--state-dir is "": it must be an absolute path, which means the same from everywhere`, "muster up --help"},
		{[]string{"clients", "instal"}, `clients has no command "instal": it has install and uninstall`, "muster clients --help"},
		{[]string{"clients", "install", "python3"}, `install takes no arguments, and was given "python3"`, "muster clients install --help"},
		{[]string{"clients", "install", "--python", ""}, "--python is empty: it must be the path of an interpreter", "muster clients install --help"},
		{[]string{"up", "--json"}, "--json says where a server in the background is, and --background is not given", "muster up --help"},
		{[]string{"completion"}, "completion needs the name of a shell; it knows bash, fish, powershell, zsh", "muster completion --help"},
		{[]string{"completion", "tcsh"}, `completion does not know the shell "tcsh"; it knows bash, fish, powershell, zsh`, "muster completion --help"},
		{[]string{"completion", "bash", "x"}, `bash takes no arguments, and was given "x"`, "muster completion bash --help"},
	} {
		w.expect(2, "", "muster: "+c.message+"\n  try: "+c.hint+"\n", c.args...)
	}
}
