// Package spawner is the first process of the namespaces in which a session's forked engines live. A zygote, an interpreter from which
// others are forked, has to enter the namespaces of an engine, and it runs what people wrote: so it may do that, and nothing else, in a
// user namespace that has these engines in it and nothing more. Who starts inits in there has to be in there itself. That is the
// spawner: it starts what its keeper asks for, gives back a pidfd, and looks at nothing. With its keeper's end of the connection it ends,
// and with it, by the kernel, everything in its process namespace.
//
//	keeper ──Order──► spawner ─► init (of a zygote, or of an engine in a process namespace of its own)
//	keeper ◄─Answer──┘
//
// The keeper starts it; cmd/muster-keeper runs it. Standard library and x/sys only.
package spawner

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/netns"
)

// Name is what the process calls itself.
const Name = "muster-spawner"

// ConnFD is the descriptor at which the keeper is.
const ConnFD = 3

// Order is one thing to do.
type Order struct {
	// Network asks for a network namespace, which the answer carries.
	Network bool `json:"network,omitempty"`
	// Init asks for an init, whose descriptors come with the order, its network behind them if it has one. The answer carries a pidfd.
	Init *Init `json:"init,omitempty"`
}

// Init is an init that is to be started.
type Init struct {
	Zygote bool          `json:"zygote,omitempty"` // a zygote's: it has an empty network of its own, and the spawner's process namespace
	Groups *cgroup.Paths `json:"groups,omitempty"`
}

// Answer tells how an order went.
type Answer struct {
	Error string `json:"error,omitempty"`
}

// Main runs the spawner; it does not return.
func Main() {
	runtime.GOMAXPROCS(1)
	unix.CloseOnExec(ConnFD)
	// Nobody's signal ends it. Ignored they would be ignored in engines, too.
	signal.Notify(make(chan os.Signal, 1))
	conn, err := wire.FileConn(os.NewFile(ConnFD, "keeper"))
	if err != nil {
		os.Exit(1)
	}
	children := newReaper()
	for {
		var o Order
		files, err := conn.Receive(&o)
		if err != nil {
			os.Exit(0) // the keeper is gone
		}
		made, err := carryOut(o, files, children)
		closeAll(files)
		var a Answer
		if err != nil {
			a.Error = err.Error()
		}
		err = conn.Send(a, made...)
		closeAll(made)
		if err != nil {
			os.Exit(0)
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func carryOut(o Order, files []*os.File, children *reaper) ([]*os.File, error) {
	switch {
	case o.Network:
		ns, err := netns.New()
		if err != nil {
			return nil, err
		}
		return []*os.File{ns}, nil
	case o.Init != nil:
		fd, err := o.Init.start(files, children)
		if err != nil {
			return nil, err
		}
		return []*os.File{fd}, nil
	}
	return nil, errors.New("an order of an unknown kind")
}

func (i Init) start(files []*os.File, children *reaper) (fd *os.File, err error) {
	namespaces := uintptr(syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS)
	start := func() error {
		_, fd, err = Start(namespaces, i.Groups, files)
		return err
	}
	if i.Zygote {
		namespaces |= syscall.CLONE_NEWNET
		err = netns.OnThread(start)
	} else {
		namespaces |= syscall.CLONE_NEWPID
		last := len(files) - 1
		net := files[last]
		files = files[:last]
		err = netns.Do(net, start)
	}
	if err == nil {
		children.more()
	}
	return fd, err
}

// Start starts an init from the calling thread, a throwaway one, in a control group: of version 1 by the thread, which enters it before,
// of version 2 by a descriptor. A process is never moved: that stalls for milliseconds.
func Start(namespaces uintptr, groups *cgroup.Paths, files []*os.File) (pid int, pidfd *os.File, err error) {
	fd := -1
	attr := &syscall.ProcAttr{Dir: "/", Env: append([]string{}, failpoint.Env()...), Sys: &syscall.SysProcAttr{Cloneflags: namespaces, PidFD: &fd}}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	if groups != nil {
		group := cgroup.Open(*groups)
		leaf, err := group.FD()
		if err != nil {
			return 0, nil, fmt.Errorf("join cgroup: %w", err)
		}
		if leaf != nil {
			defer leaf.Close()
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(leaf.Fd())
		}
		if err := group.JoinThread(); err != nil {
			return 0, nil, fmt.Errorf("join cgroup: %w", err)
		}
	}
	pid, err = syscall.ForkExec("/proc/self/exe", []string{"muster-init"}, attr)
	runtime.KeepAlive(files)
	if err != nil {
		return 0, nil, fmt.Errorf("start init: %w", err)
	}
	return pid, os.NewFile(uintptr(fd), "init"), nil
}

// reaper waits for the children of this process, its own and those that have lost their parents in its namespace.
type reaper struct {
	mu   sync.Mutex
	some sync.Cond
	n    int // that were started since there was none to wait for
}

func (r *reaper) more() {
	r.mu.Lock()
	r.n++
	r.mu.Unlock()
	r.some.Signal()
}

func newReaper() *reaper {
	r := &reaper{}
	r.some.L = &r.mu
	go r.reap()
	return r
}

func (r *reaper) reap() {
	for {
		_, err := syscall.Wait4(-1, nil, 0, nil)
		if err != syscall.ECHILD {
			continue
		}
		// There is none. Whoever loses a parent has lost one that was started here. One that was started, and has ended already, costs a look.
		r.mu.Lock()
		for r.n == 0 {
			r.some.Wait()
		}
		r.n = 0
		r.mu.Unlock()
	}
}
