package initproc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
)

// obey carries out the keeper's orders. When there is no keeper any more it ends the engine: by its own end where the kernel
// then ends the rest, else by the interpreter's, which makes the main thread end what that leaves behind.
func obey(control *wire.Conn, p *process) {
	for {
		var o wire.Order
		files, err := control.Receive(&o)
		if err != nil {
			if !p.open {
				os.Exit(exitLost)
			}
			if p.ahead != nil {
				p.ahead.giveUp()
			}
			p.kill()
			return
		}
		switch {
		case o.Signal > 0:
			p.signal(syscall.Signal(o.Signal))
		case o.Give && p.ahead != nil && len(files) > 0:
			p.ahead.give(files, p)
		}
	}
}

// signal sends one to the interpreter's process group. Where that is gone already, its exit is on its way.
func (p *process) signal(s syscall.Signal) {
	if p.ahead != nil {
		p.ahead.signal()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	unix.Kill(-p.pid, s)
}

// kill ends the interpreter. Where it is gone already, the main thread is at it.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
}

// end reaps whatever ends until it is the interpreter that has the work. Lost is told when one has ended that waited for it, and how.
func (p *process) end(lost func(*wire.Exited)) (*wire.Exited, error) {
	for {
		exited := p.wait()
		if p.ahead == nil || p.ahead.tookIt() {
			exited.Alone = p.alone()
			return exited, nil
		}
		lost(exited)
		if again, err := p.replace(); !again || err != nil {
			return exited, err
		}
	}
}

// wait reaps whatever ends until it is the interpreter.
func (p *process) wait() *wire.Exited {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &wire.Exited{Code: 1}
		}
		if pid != p.pid {
			continue
		}
		if ws.Signaled() {
			return &wire.Exited{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
		}
		return &wire.Exited{Code: ws.ExitStatus()}
	}
}

// alone reaps what else has ended, and reports whether this process is the last of its process namespace: who lost its parent there, or was
// started there from outside by Muster, is its child.
func (p *process) alone() bool {
	if p.open || p.ssh != nil { // somebody may be coming in
		return false
	}
	for {
		switch pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); {
		case err == syscall.EINTR:
		case err != nil:
			return err == syscall.ECHILD
		case pid == 0:
			return false
		}
	}
}

// endOthers ends what the interpreter left behind. In a process namespace of its own the kernel does that when the init exits; elsewhere
// all descendants are found through their parents (those that lost theirs are children of the init).
func (p *process) endOthers() {
	if p.open {
		EndDescendants(nil)
	}
}

// EndDescendants kills and reaps all descendants of this process but those that keep names (and their descendants). It looks
// for them once, and again until there are no new ones: what it takes grows with their number and no faster.
func EndDescendants(keep map[int]bool) {
	for {
		pids := stopDescendants(keep)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		// Parents come first, and the children of one that was reaped are this process's own: so it can wait for each.
		for _, pid := range pids {
			for {
				if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
					break
				}
			}
		}
	}
}

// stopDescendants lists the descendants of this process, parents first, and stops each before it looks for its children: what
// is stopped starts nothing more, and reaps nothing, so that the numbers of its children stay theirs.
func stopDescendants(keep map[int]bool) []int {
	var out []int
	for _, pid := range children(os.Getpid()) {
		if !keep[pid] {
			out = append(out, pid)
		}
	}
	for next := 0; next < len(out); next++ {
		unix.Kill(out[next], unix.SIGSTOP)
		out = append(out, children(out[next])...)
	}
	return out
}

func children(pid int) []int {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, t := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue
		}
		for _, field := range bytes.Fields(b) {
			if n, err := strconv.Atoi(string(field)); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}
