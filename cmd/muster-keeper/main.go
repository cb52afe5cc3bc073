// Go's runtime need not read the limits of the control groups, in each init that starts, and hold their files open
// (runtime.GOMAXPROCS): an init does one thing after the other, and a keeper hardly anything.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command muster-keeper is the keeper of a session, and, under the name muster-init, the first process of an engine. It is
// embedded in the muster binary, which extracts and starts it; nobody calls it by hand.
package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"muster/internal/initproc"
	"muster/internal/keeper"
	"muster/internal/keeper/wire"
	"muster/internal/spawner"
)

// init reserves the main thread: other goroutines that change a thread's namespaces must never run on it, because Go keeps
// the main thread for ever.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) == 1 && os.Args[0] == "muster-init" {
		keepFrom(wire.InitControlFD + 1)
		initproc.Main()
	}
	if len(os.Args) == 1 && os.Args[0] == spawner.Name {
		keepFrom(spawner.ConnFD + 1)
		spawner.Main()
	}
	keepFrom(wire.KeeperLockFD + 1)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "muster-keeper: started by muster itself; there is nothing to call by hand")
		os.Exit(2)
	}
	os.Exit(keeper.Main(os.Args[1]))
}

// keepFrom keeps descriptors from a number on to this process: what whoever started muster left open is not for engines. Linux before
// 5.11 does it one by one.
func keepFrom(first int) {
	if unix.CloseRange(uint(first), math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	open, _ := os.ReadDir("/proc/self/fd")
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
}
