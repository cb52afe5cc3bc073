package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// operator keeps a server running, as an administrator or a service manager does, and is asked to break it.
type operator struct {
	w    *world
	api  *api
	lane sync.Mutex // held by whoever does something to the server

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{}
	wanted bool // its end is wanted
	starts int
}

func (w *world) logName() string { return filepath.Join(w.root, "server.log") }

// up starts a server and waits until it answers. A full disk may keep it from starting: then it is started again until there is
// room, as an administrator would. An attached process that found no server may have started one: that one is taken over from.
func (o *operator) up(args ...string) error {
	for end := time.Now().Add(deadline); ; time.Sleep(100 * time.Millisecond) {
		err := o.try(args)
		if err == nil {
			return nil
		}
		runs := strings.Contains(err.Error(), "a server already runs")
		if runs && !slices.Contains(args, "--replace") {
			args = append(slices.Clone(args), "--replace")
		}
		if !runs && !o.w.wasFull(time.Now()) || time.Now().After(end) {
			return err
		}
	}
}

func (o *operator) try(args []string) error {
	log, err := os.OpenFile(o.w.logName(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	o.mu.Lock()
	o.starts++
	n := o.starts
	o.mu.Unlock()
	from, _ := log.Seek(0, 2)
	fmt.Fprintf(log, "── server %d\n", n)
	cmd := o.w.cmd(append([]string{"up", "--web", "none"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go o.watch(cmd, n, done)
	answers := func() bool { return strings.Contains(o.said(from), "muster: the server answers") }
	ended := func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	until(func() bool { return answers() || ended() })
	if !answers() {
		o.dump(cmd)
		return fmt.Errorf("server %d does not answer: %.2000s", n, o.said(from))
	}
	o.mu.Lock()
	o.cmd, o.done, o.wanted = cmd, done, false
	o.mu.Unlock()
	return nil
}

// dump ends a server that does not start, and the one that it waits for, so that their log says where they stand.
func (o *operator) dump(cmd *exec.Cmd) {
	o.mu.Lock()
	old := o.cmd
	o.wanted = true
	o.mu.Unlock()
	for _, c := range []*exec.Cmd{cmd, old} {
		if c != nil {
			c.Process.Signal(syscall.SIGABRT) // the runtime prints every goroutine
		}
	}
	time.Sleep(time.Second)
	cmd.Process.Kill()
}

func (o *operator) said(from int64) string {
	f, err := os.Open(o.w.logName())
	if err != nil {
		return ""
	}
	defer f.Close()
	f.Seek(from, 0)
	var b strings.Builder
	for s := bufio.NewScanner(f); s.Scan(); {
		b.WriteString(s.Text() + "\n")
	}
	return b.String()
}

// watch tells of a server that ended without being asked to.
func (o *operator) watch(cmd *exec.Cmd, n int, done chan struct{}) {
	cmd.Wait()
	o.mu.Lock()
	unwanted := o.cmd == cmd && !o.wanted
	o.mu.Unlock()
	if unwanted {
		o.w.violate("server %d ended by itself: %v", n, cmd.ProcessState)
	}
	close(done)
}

// end sends a signal that ends the server, and waits for its end.
func (o *operator) end(s syscall.Signal) error {
	o.mu.Lock()
	o.wanted = true
	cmd, done := o.cmd, o.done
	o.mu.Unlock()
	cmd.Process.Signal(s)
	select {
	case <-done:
		return nil
	case <-time.After(deadline):
		cmd.Process.Kill()
		<-done
		return fmt.Errorf("the server did not end within %v of signal %v", deadline, s)
	}
}

func (o *operator) pid() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cmd.Process.Pid
}
