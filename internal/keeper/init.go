package keeper

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"muster/internal/console"
	"muster/internal/keeper/wire"
	"muster/internal/linux/netns"
)

// startInit starts the init in the network namespace and cgroup that the server made, in fresh namespaces otherwise.
func (e *engine) startInit(spec, net, stdin *os.File) (err error) {
	var undo []func() error // what the engine keeps
	defer func() {
		for _, f := range undo {
			if err != nil {
				f()
			}
		}
	}()
	if stdin != nil {
		if err := e.give(stdin); err != nil {
			return err
		}
	} else {
		if stdin, err = os.Open("/dev/null"); err != nil {
			return err
		}
		defer stdin.Close()
	}
	outPump, out, err := newPump(e, console.Stdout, nil)
	if err != nil {
		return err
	}
	undo = append(undo, outPump.close)
	defer out.Close()
	errPump, errOut, err := newPump(e, console.Stderr, outPump)
	if err != nil {
		return err
	}
	undo = append(undo, errPump.close)
	defer errOut.Close()
	if err := errors.Join(e.give(out), e.give(errOut)); err != nil {
		return err
	}
	control, peer, err := wire.Pair()
	if err != nil {
		return err
	}
	undo = append(undo, control.Close)
	defer peer.Close()
	files := []*os.File{stdin, out, errOut, spec, peer}
	start := func() error { return e.fork(files) }
	if net != nil {
		err = netns.Do(net, start)
	} else {
		err = netns.OnThread(start) // it enters the engine's cgroup
	}
	if err != nil {
		return err
	}
	e.pumps = [2]*pump{outPump, errPump}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.control = control.Small()
	e.early = e.asked != nil
	return nil
}

// give makes an end of a pipe the engine's user's, so that it can be opened by name (/dev/stdout).
func (e *engine) give(end *os.File) error {
	if e.user == nil {
		return nil
	}
	return end.Chown(e.user[0], e.user[1])
}

// fork starts the init from the calling thread, in the engine's cgroup: version 1 by the thread, which enters it before,
// version 2 by a descriptor. A process is never moved: that stalls for milliseconds.
func (e *engine) fork(files []*os.File) (err error) {
	attr := &os.ProcAttr{Dir: "/", Env: []string{}, Files: files, Sys: &syscall.SysProcAttr{}}
	if !e.plain {
		attr.Sys.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	}
	if e.group != nil {
		leaf, err := e.group.FD()
		if err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
		if leaf != nil {
			defer leaf.Close()
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(leaf.Fd())
		}
		if err := e.group.JoinThread(); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	// endStrays must know every init: it ends all other children.
	e.keeper.strays.RLock()
	defer e.keeper.strays.RUnlock()
	e.process, err = os.StartProcess("/proc/self/exe", []string{"muster-init"}, attr)
	if err != nil {
		return fmt.Errorf("start init: %w", err)
	}
	e.keeper.addInit(e.process.Pid)
	return nil
}

// errNotFound and errConflict are told apart on the wire; all other errors are internal.
var (
	errNotFound = errors.New("no such engine in this session")
	errConflict = errors.New("an engine with this id exists already")
)

func kindOf(err error) string {
	switch {
	case errors.Is(err, errNotFound):
		return wire.ErrNotFound
	case errors.Is(err, errConflict):
		return wire.ErrConflict
	}
	return "internal"
}
