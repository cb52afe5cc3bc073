package drivertest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// runPython runs steps as a plain process, as a driver does once it has replaced Private.
func runPython(t *testing.T, stdin string, steps ...Step) (stdout, stderr string, state *os.ProcessState) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("capability python3: not on the PATH")
	}
	prog, err := Python(python)(steps...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range prog.Files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, a := range prog.Argv[1:] {
		args = append(args, strings.ReplaceAll(a, Private, dir))
	}
	cmd := exec.CommandContext(t.Context(), prog.Argv[0], args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = strings.NewReader(stdin), &out, &errs, dir
	cmd.Run() // how it ends is what is asserted
	return out.String(), errs.String(), cmd.ProcessState
}

// The suite is only as good as the programs in which a driver's test expresses it.
func TestPythonSteps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	out, errs, state := runPython(t, "typed\n",
		Print{"ünïcödé 'a' \"b\" \\"}, PrintErr{"oops"}, Numbers{3}, CopyStdin{}, Exists{file}, WriteFile{file, "x"}, Exists{file},
		Allocate{1 << 20}, Spin{0.01}, Exit{7})
	want := "ünïcödé 'a' \"b\" \\\n0\n1\n2\ntyped\nno " + file + "\nyes " + file + "\n"
	if out != want || errs != "oops\n" || state.ExitCode() != 7 {
		t.Errorf("stdout %q, stderr %q, %v", out, errs, state)
	}
	_, _, state = runPython(t, "", IgnoreTerm{}, Die{15}, Exit{3})
	if state.ExitCode() != 3 {
		t.Errorf("ignored signal: %v", state)
	}
	out, _, state = runPython(t, "", Trap{2, "trapped"}, Die{2}, Hang{})
	if out != "trapped\n" || state.ExitCode() != 0 {
		t.Errorf("trapped signal: %q, %v", out, state)
	}
	_, _, state = runPython(t, "", Die{9})
	if ws := state.Sys().(syscall.WaitStatus); ws.Signal() != 9 {
		t.Errorf("%v", state)
	}
	if out, _, _ = runPython(t, "", PrintDir{}, CountProcesses{}); !strings.Contains(out, "\nprocesses ") {
		t.Errorf("%q", out)
	}
}
