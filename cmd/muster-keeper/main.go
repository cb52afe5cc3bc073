// Command muster-keeper is the keeper of a session, and, under the name muster-init, the first process of an engine. It is
// embedded in the muster binary, which extracts and starts it; nobody calls it by hand.
package main

import (
	"fmt"
	"math"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"muster/internal/initproc"
	"muster/internal/keeper"
	"muster/internal/keeper/wire"
)

// init reserves the main thread: other goroutines that change a thread's namespaces must never run on it, because Go keeps
// the main thread for ever.
func init() { runtime.LockOSThread() }

func main() {
	// Descriptors that were left open by whoever started muster are not for engines.
	unix.CloseRange(wire.KeeperLockFD+1, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if len(os.Args) == 1 && os.Args[0] == "muster-init" {
		initproc.Main()
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "muster-keeper: started by muster itself; there is nothing to call by hand")
		os.Exit(2)
	}
	os.Exit(keeper.Main(os.Args[1]))
}
