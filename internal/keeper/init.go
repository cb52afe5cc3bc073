package keeper

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"muster/internal/console"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/netns"
)

// startInit starts the init in the network namespace and cgroup that the server made, in fresh namespaces otherwise.
func (e *engine) startInit(spec, net *os.File, terminal bool) (err error) {
	var undo []func() error // what the engine keeps
	defer func() {
		for _, f := range undo {
			if err != nil {
				f()
			}
		}
	}()
	stdin, typed, err := e.makeStdin(terminal)
	if err != nil {
		return err
	}
	defer stdin.Close()
	if typed != nil {
		undo = append(undo, typed.Close)
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
	if typed != nil {
		e.input.open(typed)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.control = control.Small()
	e.early = e.asked != nil
	return nil
}

// makeStdin returns the init's stdin, and where to write what comes there: nothing does, or not yet, if that is nil.
func (e *engine) makeStdin(terminal bool) (stdin, typed *os.File, err error) {
	if e.input == nil || terminal { // its terminal is the interpreter's stdin: setTerminal
		stdin, err = os.Open("/dev/null")
		return stdin, nil, err
	}
	if stdin, typed, err = inputPipe(); err != nil {
		return nil, nil, err
	}
	if err := e.give(stdin); err != nil {
		stdin.Close()
		typed.Close()
		return nil, nil, err
	}
	return stdin, typed, nil
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
	attr := &os.ProcAttr{Dir: "/", Env: append([]string{}, failpoint.Env()...), Files: files, Sys: &syscall.SysProcAttr{}}
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

// errNotFound and the conflicts are told apart on the wire; all other errors are internal.
var (
	errNotFound = errors.New("no such engine in this session")
	errConflict = errors.New("an engine with this id exists already")
	errGap      = errors.New("bytes of stdin are missing")
	errNoStdin  = errors.New("the engine has no stdin")
	errEnding   = errors.New("the session is ending")
)

func kindOf(err error) string {
	switch {
	case errors.Is(err, errNotFound):
		return wire.ErrNotFound
	case errors.Is(err, errConflict), errors.Is(err, errGap), errors.Is(err, errNoStdin):
		return wire.ErrConflict
	case errors.Is(err, errEnding):
		return wire.ErrEnding
	}
	return "internal"
}
