package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/console/screen"
)

// terminal is a terminal with a program in it and a person before it, who types and looks at the screen.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	tty    *os.File // kept open: its modes outlive the program
	before unix.Termios
	done   chan struct{}
	read   sync.WaitGroup

	mu      sync.Mutex
	screen  *screen.Screen
	changed chan struct{} // closed at the next change
}

// terminal starts muster in a new terminal, as the leader of its session and foreground.
func (w *world) terminal(rows, cols int, args ...string) *terminal {
	w.t.Helper()
	return w.terminalOf(rows, cols, w.cmd(args...))
}

// terminalOf is terminal for any program.
func (w *world) terminalOf(rows, cols int, cmd *exec.Cmd) *terminal {
	w.t.Helper()
	x := &terminal{t: w.t, done: make(chan struct{}), screen: screen.New(rows, cols), changed: make(chan struct{})}
	x.screen.Home()
	x.openPTY(rows, cols)
	x.screen.Reply = func(b []byte) { x.master.Write(b) } // where the cursor is, for prompt_toolkit
	x.cmd = cmd
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = x.tty, x.tty, x.tty
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	x.read.Go(x.show)
	go func() {
		x.cmd.Wait()
		close(x.done)
	}()
	w.t.Cleanup(func() {
		x.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-x.done:
		case <-time.After(deadline):
			x.cmd.Process.Kill()
			<-x.done
		}
		x.tty.Close()
		x.master.Close()
		x.read.Wait()
	})
	return x
}

func (x *terminal) openPTY(rows, cols int) {
	x.t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	x.master = os.NewFile(uintptr(fd), "ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		x.t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		x.t.Fatal(err)
	}
	if x.tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		x.t.Fatal(err)
	}
	x.resize(rows, cols)
	x.before = x.modes()
}

func (x *terminal) modes() unix.Termios {
	x.t.Helper()
	m, err := unix.IoctlGetTermios(int(x.tty.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return *m
}

func (x *terminal) resize(rows, cols int) {
	x.t.Helper()
	x.mu.Lock()
	x.screen.Resize(rows, cols)
	x.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(x.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(cols)}); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) show() {
	buf := make([]byte, 4096)
	for {
		n, err := x.master.Read(buf)
		x.mu.Lock()
		x.screen.Write(buf[:max(n, 0)])
		close(x.changed)
		x.changed = make(chan struct{})
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *terminal) typed(text string) {
	x.t.Helper()
	if _, err := x.master.WriteString(text); err != nil {
		x.t.Fatal(err)
	}
}

// sees waits until the last rows that show something look like this.
func (x *terminal) sees(last ...string) {
	x.t.Helper()
	x.seesThat(fmt.Sprintf("the last rows are %q", last), func(rows []string) bool {
		return len(rows) >= len(last) && slices.Equal(rows[len(rows)-len(last):], last)
	})
}

// seesThat waits until the rows down to the last one that shows something fit.
func (x *terminal) seesThat(what string, fits func(rows []string) bool) {
	x.t.Helper()
	limit := time.After(deadline)
	for {
		x.mu.Lock()
		rows, changed := x.screen.Lines(), x.changed
		x.mu.Unlock()
		for len(rows) > 0 && rows[len(rows)-1] == "" {
			rows = rows[:len(rows)-1]
		}
		if fits(rows) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			x.t.Fatalf("a person does not see that %s, but:\n%s", what, strings.Join(rows, "\n"))
		}
	}
}

// has waits until a row shows the text.
func (x *terminal) has(text string) {
	x.t.Helper()
	x.seesThat(fmt.Sprintf("there is %q", text), func(rows []string) bool {
		return slices.ContainsFunc(rows, func(r string) bool { return strings.Contains(r, text) })
	})
}

// ends waits for the program's end and checks that the terminal is as it was before.
func (x *terminal) ends(code int) {
	x.t.Helper()
	select {
	case <-x.done:
	case <-time.After(deadline):
		x.t.Fatalf("the session did not end; the screen shows\n%s", strings.Join(x.rows(), "\n"))
	}
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Errorf("exit code %d, want %d; the screen shows\n%s", got, code, strings.Join(x.rows(), "\n"))
	}
	if after := x.modes(); after != x.before {
		x.t.Errorf("the terminal was left in other modes: before %+v, after %+v", x.before, after)
	}
}

func (x *terminal) rows() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.Lines()
}

// three is a worker that prints three lines when the file is there.
func (w *world) three(name string) (goFile string) {
	w.write(name+".py", `
import os, time
while not os.path.exists("`+name+`.go"):
    time.sleep(0.01)
for n in ("one", "two", "three"):
    print(n, flush=True)
time.sleep(3600)
`)
	return name + ".go"
}

// interactive is a world whose programs keep their histories to themselves.
func interactive(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.env = append(w.env, "HOME="+w.project, "TERM=xterm", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "INPUTRC=/dev/null")
	w.write("busy.py", "def loop():\n    print('begun')\n    while True: pass\n")
	return w
}

// plainPython puts a Python without IPython first on the PATH.
func (w *world) plainPython() {
	w.t.Helper()
	dir := filepath.Join(w.project, "venv")
	if out, err := exec.Command("python3", "-m", "venv", "--without-pip", dir).CombinedOutput(); err != nil {
		w.t.Fatalf("make a virtual environment: %v\n%s", err, out)
	}
	w.env = append(w.env, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
}

func TestSessionPythonPlain(t *testing.T) {
	w := interactive(t)
	w.plainPython()
	before := w.count()
	goFile := w.three("w")
	x := w.terminal(40, 100, "session", "python3")
	x.sees(">>>")
	x.typed("import cdsw; w = cdsw.launch_workers(1, 0.2, 0.3, name='w', script='w.py')\r")
	x.sees(">>> import cdsw; w = cdsw.launch_workers(1, 0.2, 0.3, name='w', script='w.py')", ">>>")
	x.typed("print('half of a")
	x.sees(">>> print('half of a")
	w.write(goFile, "")
	x.sees("[w] one", "[w] two", "[w] three", ">>> print('half of a")
	x.typed(" line')\r")
	x.sees(">>> print('half of a line')", "half of a line", ">>>")

	x.typed("import busy; busy.loop()\r")
	x.has("begun")
	x.typed("\x03")
	x.sees("KeyboardInterrupt", ">>>")
	x.typed("not to be run")
	x.sees(">>> not to be run")
	x.typed("\x03")
	x.sees("KeyboardInterrupt", ">>>")
	x.typed("'cleared'\r")
	x.sees(">>> 'cleared'", "'cleared'", ">>>")

	x.typed("import os, shutil; os.ttyname(0), shutil.get_terminal_size()\r")
	x.sees("('/dev/pts/0', os.terminal_size(columns=100, lines=40))", ">>>")
	x.resize(30, 90)
	x.typed("import time\rwhile shutil.get_terminal_size() != (90, 30): time.sleep(0.01)\r\rshutil.get_terminal_size()\r")
	x.has("os.terminal_size(columns=90, lines=30)")
	x.typed("time.mktim\t")
	x.has("time.mktime(")
	x.typed("\x15import sys; sys.exit(7)\r")
	x.ends(7)
	w.nothingLeft(before)
	if b, err := os.ReadFile(filepath.Join(w.project, ".python_history")); err != nil || !strings.Contains(string(b), "'cleared'") {
		t.Errorf("history %q, %v", b, err)
	}
}

func TestSessionIPython(t *testing.T) {
	w := interactive(t)
	w.env = append(w.env, "PATH="+filepath.Dir(jupyter(t))+":"+os.Getenv("PATH")) // an ipykernel brings IPython
	before := w.count()
	goFile := w.three("w")
	x := w.terminal(40, 100, "session")
	x.sees("In [1]:")
	x.typed("import cdsw; w = cdsw.launch_workers(1, 0.2, 0.3, name='w', script='w.py')\r")
	x.sees("In [2]:")
	x.typed("for i in range(2):\rprint('half of a")
	x.sees("In [2]: for i in range(2):", "   ...:     print('half of a")
	w.write(goFile, "")
	x.sees("[w] one", "[w] two", "[w] three", "In [2]: for i in range(2):", "   ...:     print('half of a")
	x.typed(" line')\r\r")
	x.seesThat("the code ran", func(rows []string) bool {
		n := len(rows)
		return n > 4 && rows[n-1] == "In [3]:" && rows[n-3] == "half of a line" && rows[n-4] == "half of a line"
	})
	x.typed("import busy; busy.loop()\r")
	x.has("begun")
	x.typed("\x03")
	x.sees("In [4]:")
	x.typed("not to be run")
	x.sees("In [4]: not to be run")
	x.typed("\x03")
	x.seesThat("there is an empty prompt again", func(rows []string) bool {
		last := rows[len(rows)-1]
		return strings.HasPrefix(last, "In [") && strings.HasSuffix(last, "]:")
	})
	x.typed("exit\r")
	x.ends(0)
	w.nothingLeft(before)
}

func TestSessionR(t *testing.T) {
	requireR(t)
	w := interactive(t)
	before := w.count()
	goFile := w.three("w")
	x := w.terminal(50, 100, "session", "r")
	x.sees(">")
	x.typed("w <- launch.workers(1, 0.2, 0.5, name = 'w', script = 'w.py')\r")
	x.sees("> w <- launch.workers(1, 0.2, 0.5, name = 'w', script = 'w.py')", ">")
	x.typed("paste('half of a")
	x.sees("> paste('half of a")
	w.write(goFile, "")
	x.sees("[w] one", "[w] two", "[w] three", "> paste('half of a")
	x.typed(" line')\r")
	x.sees("> paste('half of a line')", `[1] "half of a line"`, ">")
	x.typed("cat('begun\\n'); repeat {}\r")
	x.sees("> cat('begun\\n'); repeat {}", "begun")
	x.typed("\x03")
	x.seesThat("there is a prompt again", func(rows []string) bool { return rows[len(rows)-1] == ">" })
	x.typed("not to be run")
	x.sees("> not to be run")
	x.typed("\x03")
	x.seesThat("the line is cleared", func(rows []string) bool { return rows[len(rows)-1] == ">" })
	x.typed("system('test -t 0 && tty')\r")
	x.sees("/dev/pts/0", ">")
	x.typed("?sum\r")
	x.has("Sum of Vector Elements")
	x.typed("q")
	x.sees("> ?sum", ">")
	x.typed("q(status = 9)\r")
	x.ends(9)
	w.nothingLeft(before)
	if b, err := os.ReadFile(filepath.Join(w.project, ".Rhistory")); err != nil || !strings.Contains(string(b), "half of a line") {
		t.Errorf("history %q, %v", b, err)
	}
}

// A person whose terminal window is closed, and one whose client was killed, leave nothing. A killed client cannot give the
// terminal back: nobody is there to do it (its shell's line editor, or reset, does).
func TestSessionClientGone(t *testing.T) {
	for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGHUP} {
		t.Run(end.String(), func(t *testing.T) {
			w := interactive(t)
			w.plainPython()
			before := w.count()
			x := w.terminal(40, 100, "session")
			x.sees(">>>")
			w.three("w")
			x.typed("import cdsw; w = cdsw.launch_workers(2, 0.2, 0.3, script='w.py')\r")
			x.typed("len(cdsw.await_workers(w, wait_for_completion=False)['workers'])\r")
			x.sees("2", ">>>")
			x.cmd.Process.Signal(end)
			<-x.done
			w.nothingLeft(before)
			if after := x.modes(); end == syscall.SIGHUP && after != x.before {
				t.Errorf("the terminal was left in other modes: before %+v, after %+v", x.before, after)
			}
		})
	}
}

// A session does not need its server: what is typed while there is none arrives once, with what was typed before, and a new
// size of the window too.
func TestSessionServerKilled(t *testing.T) {
	w := interactive(t)
	w.plainPython()
	before := w.count()
	server := w.server()
	x := w.terminal(40, 700, "session") // wide enough for a sentence with two paths
	x.sees(">>>")
	x.typed("before = 'typed")
	x.sees(">>> before = 'typed")
	server.cmd.Process.Kill()
	<-server.done
	x.has(`goes on, and this command waits for a server (Ctrl-\ three times`)
	x.resize(30, 180)
	x.typed(" meanwhile'\rimport os, time\rwhile os.get_terminal_size() != (180, 30): time.sleep(0.01)\r\rprint(len(before), os.get_terminal_size())\r")
	server = w.server()
	x.has("muster: the server is back")
	x.has("15 os.terminal_size(columns=180, lines=30)")
	x.typed("raise SystemExit(7)\r")
	x.ends(7)
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.wait()
	w.withoutConsoles()
	w.nothingLeft(before)
}

// Who does not want to wait for the next server ends the session, which has nobody else.
func TestSessionLeftWithoutServer(t *testing.T) {
	w := interactive(t)
	w.plainPython()
	before := w.count()
	server := w.server()
	x := w.terminal(40, 700, "session")
	x.sees(">>>")
	server.cmd.Process.Kill()
	<-server.done
	x.has("waits for a server")
	x.typed("\x1c\x1c\x1c")
	x.ends(131)
	x.has("and its workers end with this command")
	until(t, "no process of the session is left", func() bool { return w.count()["processes"] <= before["processes"] })
}
