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

// obey carries out the keeper's orders. When there is no keeper any more it ends the engine.
func obey(control *wire.Conn, p *process) {
	for {
		var o wire.Order
		if _, err := control.Receive(&o); err != nil {
			p.endOthers()
			os.Exit(exitLost)
		}
		if o.Signal > 0 {
			unix.Kill(-p.pid, syscall.Signal(o.Signal)) // gone already: its exit is on its way
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

// endOthers ends what the interpreter left behind. In a process namespace the kernel does that when the init exits; on the
// plain rung all descendants are found through their parents (those that lost theirs are children of the init), again and
// again until none is left.
func (p *process) endOthers() {
	if p.plain {
		EndDescendants(nil)
	}
}

// EndDescendants kills and reaps all descendants of this process but those that keep names (and their descendants).
func EndDescendants(keep map[int]bool) {
	for {
		pids := Descendants(os.Getpid(), keep)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGSTOP) // one that is stopped cannot start another one meanwhile
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		// Everything killed ends, and becomes a child of this process at the latest when its parent has: so there is
		// always a first child to wait for.
		for _, pid := range pids {
			if _, err := syscall.Wait4(pid, nil, 0, nil); err == nil {
				break
			}
		}
	}
}

// Descendants lists the process ids of all descendants of pid, parents first, leaving out those in skip and theirs.
func Descendants(pid int, skip map[int]bool) []int {
	var out []int
	queue := []int{pid}
	for len(queue) > 0 {
		for _, child := range children(queue[0]) {
			if skip[child] {
				continue
			}
			out = append(out, child)
			queue = append(queue, child)
		}
		queue = queue[1:]
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
