package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

func encode(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func exit(reason engine.Reason, code int, message string) api.Event {
	return api.Event{Reason: string(reason), Code: &code, Status: "failed", Message: message}
}

func TestRunShowsTheConsole(t *testing.T) {
	w := newWorld(t)
	w.script = func(m *manager) api.Event {
		m.print(sessionA, console.Stdout, "hello\n")
		m.print(worker1, console.Event, encode(api.Event{Type: "engine", Engine: worker1, Name: "crawl", Role: "worker"}))
		m.print(worker1, console.Stdout, "from a worker\n")
		m.print(worker1, console.Stderr, "oh\n")
		return exit(engine.ReasonExitCode, 7, "exit code 7")
	}
	w.expect(7, "hello\n[crawl] from a worker\n", "[crawl] oh\n", "run", "hello.py")
}

func TestRunSendsTheRequest(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "MINE=1", "BAD=\xff", "MUSTER_TOKEN=owner")
	w.expect(0, "", "", "run", "--cpu", "2", "--memory", "0.5", "--gpu", "1", "--env", "A=b=c", "--env", "MINE", "--name", "n",
		"--kernel", "python3", "train.py", "--cpu", "x", "-c", "--", "y")
	got := *w.created
	if got.OwnerPID != 0 || !got.Stdin { // over TCP, the number may be another process's
		t.Errorf("owner %d, stdin %v", got.OwnerPID, got.Stdin)
	}
	for _, k := range []string{"BAD", "MUSTER_TOKEN", "MUSTER_HOST"} {
		if _, there := got.BaseEnv[k]; there {
			t.Errorf("%s is handed to engines", k)
		}
	}
	if got.BaseEnv["HOME"] != "/home/me" {
		t.Errorf("base env %v", got.BaseEnv)
	}
	got.OwnerPID, got.BaseEnv = 0, nil
	want := `{"name":"n","kernel":"python3","script":"train.py","args":["--cpu","x","-c","--","y"],"project":"/project",` +
		`"cpu":2,"memory":0.5,"nvidia_gpu":1,"env":{"A":"b=c","MINE":"1"},"lease":"connection","stdin":true}`
	if encode(got) != want {
		t.Errorf("sent %s\nwant %s", encode(got), want)
	}
	if held := w.manager.held.Load(); held != string(sessionA) {
		t.Errorf("its console does not hold the session, but %v", held)
	}
}

// On the same machine for certain, the session ends with us.
func TestRunTellsItsProcessOverASocket(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "MUSTER_HOST="+w.socket)
	w.expect(0, "", "", "run", "x.py")
	if w.created.OwnerPID != os.Getpid() {
		t.Errorf("owner %d, want %d", w.created.OwnerPID, os.Getpid())
	}
}

func TestRunCode(t *testing.T) {
	w := newWorld(t)
	w.expect(0, "", "", "run", "-c", "print(1)", "a", "-b")
	if w.created.Code != "print(1)" || strings.Join(w.created.Args, " ") != "a -b" || w.created.Script != "" {
		t.Errorf("%+v", w.created)
	}
}

// FILE is meant from where one stands, also when the project is elsewhere.
func TestRunWithAProject(t *testing.T) {
	w := newWorld(t)
	w.deps.Dir = t.TempDir()
	os.WriteFile(filepath.Join(w.deps.Dir, "here.py"), nil, 0o600)
	w.expect(0, "", "", "run", "--project", "sub", "here.py")
	if w.created.Project != filepath.Join(w.deps.Dir, "sub") || w.created.Script != filepath.Join(w.deps.Dir, "here.py") {
		t.Errorf("%+v", w.created)
	}
	w = newWorld(t)
	w.expect(0, "", "", "run", "--project", "/p", "inproject.py")
	if w.created.Script != "inproject.py" {
		t.Errorf("%+v", w.created)
	}
}

// What leads out of the folder is meant from there, also if it does not exist: the server then says that.
func TestRunOutside(t *testing.T) {
	for _, args := range [][]string{{"run", "../nosuch.py"}, {"run", "--project", "sub", "../nosuch.py"}} {
		w := newWorld(t)
		w.deps.Dir = t.TempDir()
		w.expect(0, "", "", args...)
		if want := filepath.Join(filepath.Dir(w.deps.Dir), "nosuch.py"); w.created.Script != want {
			t.Errorf("%v: %q, want %q", args, w.created.Script, want)
		}
	}
}

func TestRunSendsStdin(t *testing.T) {
	w := newWorld(t)
	w.in = strings.NewReader("typed\n")
	w.script = func(m *manager) api.Event {
		b, _ := io.ReadAll(m.stdin) // to its end
		m.print(sessionA, console.Stdout, "got "+string(b))
		return exit(engine.ReasonSucceeded, 0, "")
	}
	w.expect(0, "got typed\n", "", "run", "x.py")
}

// With - the code comes on stdin, and the script's own is empty.
func TestRunCodeFromStdin(t *testing.T) {
	w := newWorld(t)
	w.in = strings.NewReader("print(1)\n")
	w.expect(0, "", "", "run", "--kernel", "r", "-", "a", "-b")
	if got := w.created; got.Code != "print(1)\n" || got.Script != "" || got.Stdin || got.Kernel != "r" || strings.Join(got.Args, " ") != "a -b" {
		t.Errorf("%+v", got)
	}
	w = newWorld(t)
	w.expect(0, "", "", "run", "-")
	if w.created.Code != noCode {
		t.Errorf("no code became %q", w.created.Code)
	}
	w = newWorld(t)
	w.in = strings.NewReader("\xff")
	w.expect(2, "", "muster: the code on stdin is not UTF-8\n  try: muster run --help\n", "run", "-")
}

// Where the code does not come, a signal ends the waiting for it.
func TestSignalWhileTheCodeIsRead(t *testing.T) {
	w := newWorld(t)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer typed.Close()
	w.in = in
	go func() { w.signals <- syscall.SIGTERM }()
	w.expect(143, "", "", "run", "-")
}

// With --no-stdin what is on stdin is left to others.
func TestRunWithoutStdin(t *testing.T) {
	w := newWorld(t)
	in := strings.NewReader("the loop's\n")
	w.in = in
	w.expect(0, "", "", "run", "-n", "x.py")
	if w.created.Stdin || in.Len() != len("the loop's\n") {
		t.Errorf("stdin %v, %d bytes left", w.created.Stdin, in.Len())
	}
}

// A script that does not read does not wait for what is never typed.
func TestRunEndsWithoutStdin(t *testing.T) {
	w := newWorld(t)
	in, typed := io.Pipe()
	defer typed.Close()
	w.in = in
	w.expect(0, "", "", "run", "x.py")
}

func TestRunExitCodes(t *testing.T) {
	for _, c := range []struct {
		e    api.Event
		code int
		says string
	}{
		{exit(engine.ReasonSucceeded, 0, ""), 0, ""},
		{exit(engine.ReasonExitCode, 3, "exit code 3"), 3, ""},
		{exit(engine.ReasonSignal, 139, "signal 11 (SIGSEGV) ended it"), 139, "muster: signal 11 (SIGSEGV) ended it\n"},
		{exit(engine.ReasonOutOfMemory, 137, "out of memory: limit 0.2 GB"), 137, "muster: out of memory: limit 0.2 GB\n"},
		{exit(engine.ReasonLaunchFailed, 0, "there is no R here"), 1, "muster: there is no R here\n"},
		{exit(engine.ReasonStopped, 143, "stopped by user"), 143, "muster: stopped by user\n"},
		{exit(engine.ReasonKeeperLost, 0, ""), 1, "muster: the session ended: keeper lost\n"},
	} {
		w := newWorld(t)
		w.script = func(m *manager) api.Event { return c.e }
		w.expect(c.code, "", c.says, "run", "x.py")
	}
}

func TestCtrlC(t *testing.T) {
	w := newWorld(t)
	w.script = func(m *manager) api.Event {
		m.print(sessionA, console.Stdout, "ready\n")
		<-m.interrupted
		m.print(sessionA, console.Stdout, "caught it\n") // what is printed after it is still shown
		return exit(engine.ReasonSignal, 130, "signal 2 (SIGINT) ended it")
	}
	go func() { w.out.await(t, "ready"); w.signals <- syscall.SIGINT }()
	w.expect(130, "ready\ncaught it\n", "", "run", "x.py")
	if strings.Join(w.calls, ", ") != "interrupt" {
		t.Errorf("%q", w.calls)
	}
}

func TestSecondCtrlCEndsTheSession(t *testing.T) {
	w := newWorld(t)
	w.script = func(m *manager) api.Event {
		m.print(sessionA, console.Stdout, "ready\n")
		<-m.interrupted // and does not care
		m.print(sessionA, console.Stdout, "no\n")
		<-m.ending
		return exit(engine.ReasonSessionEnded, 143, "the session ended")
	}
	go func() {
		w.out.await(t, "ready")
		w.signals <- syscall.SIGINT
		w.out.await(t, "no")
		w.signals <- syscall.SIGINT
	}()
	w.expect(130, "ready\nno\n", "muster: interrupted twice: session "+sessionA+" and its workers were ended\n", "run", "x.py")
	if strings.Join(w.calls, ", ") != "interrupt, end "+sessionA {
		t.Errorf("%q", w.calls)
	}
}

func TestSIGTERMEndsTheSession(t *testing.T) {
	w := newWorld(t)
	w.script = func(m *manager) api.Event {
		m.print(sessionA, console.Stdout, "ready\n")
		<-m.ending
		return exit(engine.ReasonSessionEnded, 143, "the session ended")
	}
	go func() { w.out.await(t, "ready"); w.signals <- syscall.SIGTERM }()
	w.expect(143, "ready\n", "muster: ended by SIGTERM: session "+sessionA+" and its workers were ended\n", "run", "x.py")
	if strings.Join(w.calls, ", ") != "end "+sessionA {
		t.Errorf("%q", w.calls)
	}
}

func TestRunRefused(t *testing.T) {
	w := newWorld(t)
	w.createErr = engine.Errorf(engine.Invalid, "there is no file x.py").WithHint("look for it")
	w.expect(1, "", "muster: there is no file x.py\n  try: look for it\n", "run", "x.py")
}

// Without a server one inside is used, and ended.
func TestRunWithAServerInside(t *testing.T) {
	w := newWorld(t)
	w.env = w.env[2:]
	var closed bool
	var got EmbeddedOptions
	w.deps.Embedded = func(_ context.Context, o EmbeddedOptions) (string, string, func(context.Context) error, error) {
		got = o
		return w.address, "owner", func(ctx context.Context) error { closed = true; return ctx.Err() }, nil
	}
	w.script = func(m *manager) api.Event { return exit(engine.ReasonExitCode, 4, "") }
	w.expect(4, "", "", "run", "--hard-cpu", "--rung", "plain", "x.py")
	if !closed || !got.HardCPU || got.Rung != "plain" {
		t.Errorf("closed %v, options %+v", closed, got)
	}
}

func TestRunWithoutAnyServer(t *testing.T) {
	w := newWorld(t)
	w.deps.Embedded = func(context.Context, EmbeddedOptions) (string, string, func(context.Context) error, error) {
		return "", "", nil, errors.New("no room")
	}
	w.expect(1, "", "muster: no room\n", "run", "--server", "none", "x.py")
	w.expect(1, "", "muster: --rung is for the server inside, and the server at "+w.address+" is used\n  try: add --server none\n",
		"run", "--rung", "plain", "x.py")
	w.env = append(w.env, "MUSTER_HOST=unix:///nowhere/s") // named: nothing else will do
	w.expect(3, "", "muster: no server answers at unix:///nowhere/s\n  try: start one with: muster up\n", "run", "x.py")
}

// A signal while the server inside starts ends the start.
func TestSignalBeforeTheSession(t *testing.T) {
	w := newWorld(t)
	starting := make(chan struct{})
	w.deps.Embedded = func(ctx context.Context, _ EmbeddedOptions) (string, string, func(context.Context) error, error) {
		close(starting)
		<-ctx.Done()
		return "", "", nil, ctx.Err()
	}
	go func() { <-starting; w.signals <- syscall.SIGINT }()
	w.expect(130, "", "", "run", "--server", "none", "x.py")
}

// While what was started is being ended, one signal ends the waiting.
func TestSignalWhileClosing(t *testing.T) {
	w := newWorld(t)
	w.env = w.env[2:]
	closing := make(chan struct{})
	w.deps.Embedded = func(_ context.Context, o EmbeddedOptions) (string, string, func(context.Context) error, error) {
		return w.address, "owner", func(ctx context.Context) error {
			close(closing)
			<-ctx.Done() // it would take long
			return ctx.Err()
		}, nil
	}
	go func() { <-closing; w.signals <- syscall.SIGINT }()
	w.expect(0, "", "muster: the server inside did not end well: ended by signal: interrupt\n", "run", "--server", "none", "x.py")
}

// The third Ctrl-C gives the session up, the fourth the waiting for its end; the server inside gets no more time then.
func TestEveryCtrlCDoesSomething(t *testing.T) {
	w := newWorld(t)
	w.env = w.env[2:]
	w.ends = make(chan struct{}, 2)
	release := make(chan struct{})
	defer func() { close(release); <-w.done }()
	w.deps.Embedded = func(context.Context, EmbeddedOptions) (string, string, func(context.Context) error, error) {
		return w.address, "owner", func(ctx context.Context) error { return ctx.Err() }, nil
	}
	w.script = func(m *manager) api.Event {
		m.print(sessionA, console.Stdout, "ready\n")
		<-release // neither SIGINT nor an end impresses it
		return exit(engine.ReasonSessionEnded, 143, "the session ended")
	}
	go func() {
		w.out.await(t, "ready")
		w.signals <- syscall.SIGINT
		<-w.interrupted
		w.signals <- syscall.SIGINT
		<-w.ends
		w.signals <- syscall.SIGINT
		<-w.ends // again: it is closing
		w.signals <- syscall.SIGINT
	}()
	w.expect(130, "ready\n", "muster: the server inside did not end well: ended by signal: interrupt\n"+
		"muster: interrupted again: gave up on session "+sessionA+", which may still be ending\n", "run", "--server", "none", "x.py")
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// Where the output goes nowhere the session ends: quietly if its reader has enough, else with the reason.
func TestRunWithoutReaders(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		says string
	}{
		{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, 141, ""},
		{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}, 1, "muster: write /dev/stdout: no space left on device\n"},
	} {
		w := newWorld(t)
		w.stdout = failing{c.err}
		w.script = func(m *manager) api.Event {
			m.print(sessionA, console.Stdout, "hello\n")
			<-m.ending
			return exit(engine.ReasonSessionEnded, 143, "the session ended")
		}
		w.expect(c.code, "", c.says, "run", "x.py")
		if strings.Join(w.calls, ", ") != "end "+sessionA {
			t.Errorf("%q", w.calls)
		}
	}
}
