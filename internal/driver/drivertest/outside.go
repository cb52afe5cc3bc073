package drivertest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"muster/internal/driver"
)

// outside is a process of a user's that lives outside of every engine, and does what it is told on its stdin.
type outside struct {
	w   *world
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

// outsideProgram answers each line with one line. What it started ends with it.
const outsideProgram = `
import socket, subprocess, sys, threading
def answer(s, text):
    while True:
        c, _ = s.accept()
        c.sendall((text + "\n").encode())
        c.close()
for line in sys.stdin:
    word, *args = line.split()
    try:
        if word == "serve":
            s = socket.socket(socket.AF_INET6 if ":" in args[0] else socket.AF_INET)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((args[0], int(args[1])))
            s.listen(64)
            threading.Thread(target=answer, args=(s, " ".join(args[2:])), daemon=True).start()
            reply = str(s.getsockname()[1])
        elif word == "connect":
            c = socket.create_connection((args[0], int(args[1])), 20)
            reply = "got " + c.makefile().readline().strip() + " as " + c.getsockname()[0]
        elif word == "child":
            child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            child.stdin.write(" ".join(args) + "\n")
            child.stdin.flush()
            reply = child.stdout.readline().strip()
    except OSError as e:
        reply = "error: " + str(e)
    print(reply, flush=True)
`

func (w *world) outside() *outside {
	w.t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		w.t.Skip("capability python3: there is no python3 on the PATH")
	}
	o := &outside{w: w, cmd: exec.Command(python, "-c", outsideProgram, outsideProgram)}
	in, err := o.cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	o.cmd.Stderr = os.Stderr
	o.in, o.out = in, bufio.NewScanner(out)
	if err := o.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(o.kill)
	return o
}

func (o *outside) pid() int { return o.cmd.Process.Pid }

func (o *outside) kill() {
	o.cmd.Process.Kill()
	o.cmd.Wait()
}

// tell lets the process do something and returns its answer.
func (o *outside) tell(format string, args ...any) string {
	o.w.t.Helper()
	if _, err := fmt.Fprintf(o.in, format+"\n", args...); err != nil {
		o.w.t.Fatal(err)
	}
	if !o.out.Scan() {
		o.w.t.Fatalf("the process outside ended: %v", o.out.Err())
	}
	return o.out.Text()
}

// serve listens and returns the port; 0 is any.
func (o *outside) serve(addr string, port int, text string) int {
	o.w.t.Helper()
	return o.port("serve %s %d %s", addr, port, text)
}

func (o *outside) port(format string, args ...any) (port int) {
	o.w.t.Helper()
	answer := o.tell(format, args...)
	if _, err := fmt.Sscan(answer, &port); err != nil {
		o.w.t.Fatalf("%s: %s", strings.Fields(format)[0], answer)
	}
	return port
}

// attach opens the place of a session that the process is.
func (w *world) attach(o *outside) *place {
	w.t.Helper()
	p := w.newPlace()
	p.spec.Attached = &driver.Attached{Name: "outside", PID: o.pid()}
	fd, err := unix.PidfdOpen(o.pid(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	p.spec.Owner = os.NewFile(uintptr(fd), "pidfd")
	if p.s, err = w.d.Open(w.t.Context(), p.spec); err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.t.Cleanup(p.end)
	return p
}
