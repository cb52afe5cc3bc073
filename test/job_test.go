package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// ioctl asks a terminal. (Not by Fd, which would make reads of it block its Close.)
func ioctl(t *testing.T, f *os.File, request uintptr, n *int32) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(n))); errno != 0 {
			err = errno
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// foreground is the process group that a terminal belongs to.
func foreground(t *testing.T, f *os.File) int {
	t.Helper()
	var group int32
	ioctl(t, f, syscall.TIOCGPGRP, &group)
	return int(group)
}

// openTerminal makes a pseudo-terminal: its two ends.
func openTerminal(t *testing.T) (person, tty *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var n int32
	ioctl(t, person, syscall.TIOCSPTLCK, &n)
	ioctl(t, person, syscall.TIOCGPTN, &n)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return person, tty
}

// shell starts an interactive bash on a terminal of its own. What it and its jobs show is the background's output.
func (w *world) shell() (b *background, person *os.File) {
	w.t.Helper()
	person, tty := openTerminal(w.t)
	cmd := exec.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Dir = w.project
	cmd.Env = append(w.env, "PS1=$ ", "PATH="+filepath.Dir(binary(w.t))+":"+os.Getenv("PATH"), "HISTFILE=", "TERM=dumb")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	b = &background{t: w.t, cmd: cmd, done: make(chan struct{}), ping: make(chan struct{}, 1)}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	tty.Close()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for buf := make([]byte, 4096); ; {
			n, err := person.Read(buf)
			b.Write(buf[:n])
			if err != nil { // closed, or the last process that had it open is gone
				return
			}
		}
	}()
	go func() { cmd.Wait(); close(b.done) }()
	w.t.Cleanup(func() {
		person.Close() // a hangup: the shell ends, and its jobs with it
		<-shown
		select {
		case <-b.done:
		case <-time.After(deadline):
			cmd.Process.Kill()
			<-b.done
			w.t.Error("the shell outlived its terminal")
		}
	})
	b.await("$ ")
	return b, person
}

// state is a process's letter in /proc: T is stopped.
func state(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

// job beats until it is told to read.
const job = `
import os, sys, time
marks = sys.argv[1]
print("job is up", flush=True)
while not os.path.exists(marks + "/read"):
    open(marks + "/beat", "w").close()
    time.sleep(0.01)
while True:
    line = input()
    if line == "end": break
    print("job got <%s>" % line, flush=True)
`

// beat waits until the job has beaten a few times more.
func beat(t *testing.T, marks string) {
	t.Helper()
	for range 5 {
		os.Remove(marks + "/beat")
		until(t, "the job goes on", func() bool { _, err := os.Stat(marks + "/beat"); return err == nil })
	}
}

// A job of a shell: behind it goes on as long as it does not read, in front again it gets what is typed, however it came to
// be behind.
func TestJobControl(t *testing.T) {
	for _, way := range []string{"stopped and continued", "begun"} {
		t.Run(way, func(t *testing.T) {
			w := makeWorld(t)
			marks := filepath.Join(w.root, "marks")
			os.Mkdir(marks, 0o700)
			w.write("job.py", job)
			b, person := w.shell()
			line := "muster run --rung plain job.py " + marks
			if way == "begun" {
				line += " &"
			}
			fmt.Fprintln(person, line)
			b.await("job is up")
			pids := pidsOf("muster run --rung plain job.py " + w.root)
			if len(pids) != 1 {
				t.Fatalf("%d processes of the command", len(pids))
			}
			if way != "begun" {
				fmt.Fprint(person, "\x1a")
				until(t, "Ctrl-Z stops it", func() bool { return state(pids[0]) == "T" })
				b.await("Stopped")
				fmt.Fprintln(person, "bg")
			}
			// What is typed now is the shell's, and does not stop the job that could read it: neither what the shell takes at
			// once, nor what lies there while another job is in front.
			fmt.Fprintln(person, "sleep 1000")
			until(t, "the other job is in front", func() bool { return foreground(t, person) != b.cmd.Process.Pid })
			fmt.Fprintln(person, "typed ahead")
			beat(t, marks)
			fmt.Fprint(person, "\x03") // takes away what was typed ahead, too
			until(t, "the shell is in front", func() bool { return foreground(t, person) == b.cmd.Process.Pid })
			fmt.Fprintln(person, "echo shell has $((6*7))")
			b.await("shell has 42")
			until(t, "it runs behind", func() bool { s := state(pids[0]); return s == "S" || s == "R" })
			beat(t, marks)
			os.WriteFile(marks+"/read", nil, 0o600)
			fmt.Fprintln(person, "fg")
			// Typed when the shell has handed over the terminal: earlier it might still be the shell's.
			until(t, "it is in front", func() bool { return foreground(t, person) == pids[0] })
			fmt.Fprintln(person, "typed")
			b.await("job got <typed>")
			fmt.Fprintln(person, "end")
			until(t, "the shell is in front", func() bool { return foreground(t, person) == b.cmd.Process.Pid })
			fmt.Fprintln(person, "echo code $((100+$?))")
			b.await("code 100")
			if s := b.output(); strings.Contains(s, "tty input") {
				t.Errorf("the job was stopped for reading: %s", s)
			}
		})
	}
}
