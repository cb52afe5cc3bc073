package kernel

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"muster/engine"
)

func TestReadAtStart(t *testing.T) {
	for name, want := range map[string]bool{
		"PYTHONPATH": true, "LD_PRELOAD": true, "LC_ALL": true, "TZ": true, "HOME": true, "OMP_NUM_THREADS": true, "R_LIBS": true,
		"TZX": false, "MY_TOKEN": false, "HOMEWORK": false, "CDSW_ENGINE_ID": false, "": false,
	} {
		if got := ReadAtStart(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// Python 3.13 reads a thread variable when it starts.
func TestWhoReadsThreadsAtStart(t *testing.T) {
	dir := t.TempDir()
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, later := range map[string]bool{
		program("python3.7"): true, program("python3.11"): true, program("python3.12"): true, program("python3.13"): false, program("python3.13t"): false,
		program("python3.20"): false, program("python3"): false, program("pypy3.10"): false, filepath.Join(dir, "missing3.11"): false,
		link("python", "python3.11"): true, link("python3.9", "python3.13"): false, link("python3.10", "python3.10"): false,
	} {
		if a := aheadOfPython(Config{}, path, "", nil); a.Threads != later || !a.Bare {
			t.Errorf("%s: %+v", path, a)
		}
		if a := aheadOfPython(Config{}, path, "", []string{"numpy"}); a.Threads != later || a.Bare {
			t.Errorf("%s with modules: %+v", path, a)
		}
	}
}

// An interpreter that waits knows them, whoever the work is for: else what reads them then would see others.
func TestThreadVariablesAreReadAtStart(t *testing.T) {
	runner, err := os.ReadFile("../../clients/python/_muster/_runner.py")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(runner), "\nTHREADS = (")
	list, _, _ = strings.Cut(list, ")")
	for _, name := range ThreadVariables {
		if !ReadAtStart(name) || !strings.Contains(list, `b"`+name+`"`) {
			t.Errorf("%s: read at the start %v; the runner's are %s", name, ReadAtStart(name), list)
		}
	}
	if n := strings.Count(list, `b"`); n != len(ThreadVariables) {
		t.Errorf("the runner has %d of them, want %d", n, len(ThreadVariables))
	}
}

// What R does with a script it does with the same script when it was started before that was known.
func TestRAheadIsAsRscript(t *testing.T) {
	rscript, err := exec.LookPath("Rscript")
	if err != nil {
		t.Skip("capability R: there is no Rscript on the PATH")
	}
	for name, script := range map[string]string{
		"prints":       "x <- 1:3\nx\nprint('a')\ninvisible(7)\ncat('no newline')",
		"arguments":    "commandArgs()\ncommandArgs(TRUE)\nsub('--file=', '', grep('--file=', commandArgs(), value = TRUE))\n",
		"environment":  "cat(Sys.getenv('SAID'), Sys.getenv('QUOTED'), Sys.getenv('EMPTY'), '\\n')\nsystem('echo $SAID')\n",
		"error":        "f <- function() stop('no luck')\nf()\ncat('never\\n')\n",
		"warning":      "warning('look out')\nas.integer('x')\n",
		"syntax error": "cat('first\\n')\nx <- = 1\n",
		"exit code":    "quit(status = 3)\n",
		"incomplete":   "cat('first\\n')\nf <- function() {\n",
		"globals":      "ls()\nls(all.names = TRUE)\nsearch()\ninteractive()\n",
		"input":        "readLines(file('stdin'))\n",
		"long":         "n <- 0\n" + strings.Repeat("n <- n + 1 # a line that makes the script longer than a pipe\n", 4000) + "n\n",
		"options":      "options('echo', 'keep.source', 'warn')\ngetOption('defaultPackages')\n",
		"empty":        "",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "script.R"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			argv := []string{rscript, "script.R", "x", "-y", "a b"}
			env := append(os.Environ(), "SAID=yes\xc3\xa9", "QUOTED=a\"b\\c\td", "EMPTY=")
			cold := exec.Command(argv[0], argv[1:]...)
			cold.Dir, cold.Env = dir, env
			wantOut, wantErr, wantCode := outputs(t, cold, nil)
			out, said, code, took := rAhead(t, rscript, dir, argv, env, func() {})
			if !took {
				t.Error("it does not say that it takes the work")
			}
			if out != wantOut || said != wantErr || code != wantCode {
				t.Errorf("ahead: %d, %q, %q\nwant:  %d, %q, %q", code, out, said, wantCode, wantOut, wantErr)
			}
		})
	}
}

// It has loaded packages of which it reads more when that is needed: where others were installed meanwhile it ends, and does nothing.
func TestRAheadDeclines(t *testing.T) {
	rscript, err := exec.LookPath("Rscript")
	if err != nil {
		t.Skip("capability R: there is no Rscript on the PATH")
	}
	dir, library := t.TempDir(), t.TempDir()
	t.Setenv("R_LIBS", library)
	if err := os.WriteFile(filepath.Join(dir, "script.R"), []byte("cat('ran')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, said, code, took := rAhead(t, rscript, dir, []string{rscript, "script.R"}, os.Environ(), func() {
		if err := os.Mkdir(filepath.Join(library, "package"), 0o700); err != nil {
			t.Error(err)
		}
	})
	if out != "" || said != "" || code != 0 || took {
		t.Errorf("%q, %q, exit code %d, took the work: %v", out, said, code, took)
	}
}

// rAhead starts R ahead of a script, and returns how it ended, and whether it said that it takes the work.
func rAhead(t *testing.T, rscript, dir string, argv, env []string, meanwhile func()) (out, said string, code int, took bool) {
	t.Helper()
	private := filepath.Join(dir, "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	var fifos [2]*os.File
	for i, name := range []string{"waits", "work"} {
		if err := unix.Mkfifo(filepath.Join(private, name), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(private, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fifos[i] = f
	}
	a := aheadOfR(rscript, private, Request{Project: dir, Env: map[string]string{"HOME": dir}})
	if a.All {
		t.Error("no file of people's is there, and all variables are said to count")
	}
	cmd := exec.Command(a.Argv[0], a.Argv[1:]...)
	cmd.Dir, cmd.Env = dir, os.Environ()
	fifos[1].Write(a.Begin)
	var letter [1]byte
	out, said, code = outputs(t, cmd, func() {
		if fifos[0].Read(letter[:]); letter[0] != 'w' {
			t.Errorf("it says %q, and not that it waits", letter)
		}
		meanwhile()
		in, err := os.OpenFile(fifos[1].Name(), os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		fifos[1].Close()
		defer in.Close()
		words, file := Command{Kernel: engine.R, Argv: argv, Ahead: a, Private: private}.Work(env)
		in.Write(words)
		script, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
			return
		}
		defer script.Close()
		io.Copy(in, script)
	})
	heard := int(fifos[0].Fd())
	unix.SetNonblock(heard, true)
	n, _ := unix.Read(heard, letter[:])
	return out, said, code, n == 1 && letter[0] == 't'
}

func outputs(t *testing.T, cmd *exec.Cmd, meanwhile func()) (out, said string, code int) {
	t.Helper()
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	cmd.Wait()
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// Files of people's that R runs at its start may look at any variable.
func TestRProfilesMakeAllVariablesCount(t *testing.T) {
	project, home := t.TempDir(), t.TempDir()
	r := Request{Project: project, Env: map[string]string{"HOME": home}}
	if aheadOfR("R", "p", r).All {
		t.Error("there is none")
	}
	for _, path := range []string{filepath.Join(project, ".Rprofile"), filepath.Join(home, ".Renviron")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if !aheadOfR("R", "p", r).All {
			t.Errorf("%s is not seen", path)
		}
		os.Remove(path)
	}
	r.Env["R_PROFILE_USER"] = "/x"
	if !aheadOfR("R", "p", r).All {
		t.Error("R_PROFILE_USER is not seen")
	}
}

func TestWorkOfPython(t *testing.T) {
	c := Command{Kernel: engine.Python3, Argv: []string{"python3", "-u", "r.py", "script", "a.py", ""}, Ahead: &Ahead{Skip: 3}}
	words, file := c.Work([]string{"A=1", "B="})
	if want := []string{"3", "2", "script", "a.py", "", "A=1", "B=", ""}; !slices.Equal(strings.Split(string(words), "\x00"), want) || file != "" {
		t.Errorf("%q, %q", words, file)
	}
}
