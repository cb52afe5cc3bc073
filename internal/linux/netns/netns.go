// Package netns makes network namespaces and works in them. A namespace lives only by its descriptor: it has no name, no
// mount and no process of its own, so that it is gone when the last holder closes it, even after kill -9 of everybody.
//
// Linux gives each thread a namespace, and Go moves goroutines between threads. All work therefore happens on a throwaway
// thread: locked to one goroutine, moved into the namespace, and never unlocked, so that Go ends the thread instead of
// handing a thread that looks at another network to somebody else. (Switching back is no alternative: inside a user
// namespace the way back is refused.) A socket stays in the namespace in which it was created and can be used from
// everywhere, which makes the functions below enough for listeners and connections.
//
// Two things to mind:
//   - Go cannot end the main thread of a process, only park it, in the foreign namespace and for ever. Do steps aside when
//     it finds itself there; a main package that does other work on throwaway threads reserves the main thread with
//     func init() { runtime.LockOSThread() }.
//   - A child started inside Do must not have SysProcAttr.Pdeathsig: that signal fires when the thread ends, at once.
//
// It uses golang.org/x/sys alone; everybody may import it.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNotRun is returned by Do when fn ended its goroutine instead of returning.
var ErrNotRun = errors.New("the function in the network namespace did not return")

// New makes a network namespace that only the returned descriptor holds. Its loopback is down: see LoHere.
func New() (*os.File, error) {
	return NewWith(func(*os.File) error { return nil })
}

// NewWith makes a network namespace as New does and runs setup in it, as Do would, on the thread that is there anyway.
// When setup returns an error the namespace is closed: all or nothing.
func NewWith(setup func(ns *os.File) error) (*os.File, error) {
	var ns *os.File
	err := OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		var err error
		if ns, err = Current(); err != nil {
			return err
		}
		return setup(ns)
	})
	if err != nil {
		if ns != nil {
			ns.Close()
		}
		return nil, err
	}
	return ns, nil
}

// Current opens the network namespace of the calling thread: the process's own, or in Do the one that fn works in.
func Current() (*os.File, error) {
	const path = "/proc/thread-self/ns/net"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Do runs fn on a throwaway thread inside ns and returns its error. Sockets that fn creates and processes that it starts
// belong to ns; goroutines that it starts do not. ns must stay open until Do returns. The thread ends shortly after Do
// has returned.
func Do(ns *os.File, fn func() error) error {
	return OnThread(func() error {
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		runtime.KeepAlive(ns)
		if err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return fn()
	})
}

// OnThread runs fn on a thread that ends afterwards, and with it whatever fn made of it.
func OnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread: hold it while another goroutine, which cannot come here then, does the work.
			done <- OnThread(fn)
			runtime.UnlockOSThread()
			return
		}
		err := ErrNotRun // stays when fn calls runtime.Goexit, as FailNow of a test does
		defer func() { done <- err }()
		err = fn()
	}()
	return <-done
}
