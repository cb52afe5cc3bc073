// Command muster gives Python and R sessions their own crew of workers. See muster --help.
package main

import (
	"context"
	"math"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"muster/internal/app"
	"muster/internal/cli"
)

// init reserves the main thread: goroutines that work in other network namespaces must never run on it (package netns).
func init() { runtime.LockOSThread() }

func main() {
	// Descriptors that the caller left open are for us at most, not for engines.
	unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	app.Trial() // is this one?
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.StdStreams(), app.Deps()))
}
