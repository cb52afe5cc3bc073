package keeper

import (
	"errors"
	"os"
	"syscall"

	"muster/internal/console"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/netns"
	"muster/internal/spawner"
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
	if err := e.start([]*os.File{stdin, out, errOut, spec, peer}, net); err != nil {
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

// start starts the init, here or among those that zygotes fork.
func (e *engine) start(files []*os.File, net *os.File) error {
	switch {
	case e.zygote != nil || e.parent != nil:
		return e.spawn(files, net)
	case net != nil:
		return netns.Do(net, func() error { return e.fork(files) })
	}
	return netns.OnThread(func() error { return e.fork(files) }) // it enters the engine's cgroup
}

// fork starts the init from the calling thread.
func (e *engine) fork(files []*os.File) error {
	var namespaces uintptr
	if !e.plain {
		namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	}
	var groups *cgroup.Paths
	if e.group != nil {
		paths := e.group.Paths()
		groups = &paths
	}
	// endStrays must know every init: it ends all other children.
	e.keeper.strays.RLock()
	defer e.keeper.strays.RUnlock()
	pid, fd, err := spawner.Start(namespaces, groups, files)
	if err != nil {
		return err
	}
	fd.Close()
	child, err := os.FindProcess(pid) // a child that nobody waited for: the number is its
	if err != nil {
		return err
	}
	e.process = &first{pid: pid, child: child}
	e.keeper.addInit(pid)
	return nil
}

// spawn has the spawner start the init: of a zygote, or of an engine that one forks.
func (e *engine) spawn(files []*os.File, net *os.File) error {
	order := &spawner.Init{Zygote: e.zygote != nil}
	if e.group != nil {
		paths := e.group.Paths()
		order.Groups = &paths
	}
	if e.zygote != nil {
		asked, err := e.zygote.pair()
		if err != nil {
			return err
		}
		defer asked.Close()
		files = append(files, asked)
	} else {
		files = append(files, e.parent)
		if e.group != nil {
			doors, err := e.group.Doors()
			if err != nil {
				return err
			}
			defer closeAll(doors)
			files = append(files, doors...)
		}
		files = append(files, net)
	}
	fd, err := e.keeper.spawner.spawn(spawner.Order{Init: order}, files...)
	if err != nil {
		return err
	}
	pid, err := numberOf(fd)
	if err != nil {
		fd.Close()
		e.keeper.spawner.ended()
		return err
	}
	e.process = &first{pid: pid, fd: fd}
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
