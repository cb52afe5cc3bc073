package keeper

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/console"
)

// The lease outlives what the collector does: a descriptor that it closed would be another file's soon, and the end of the process
// that holds the session would never be seen, or be seen while it lives.
func TestLeaseIsHeldThroughCollections(t *testing.T) {
	holder := exec.Command("sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Process.Kill()
	fd, err := unix.PidfdOpen(holder.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	var before, now unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		t.Fatal(err)
	}
	log, err := console.OpenWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	k := &Keeper{console: log, done: make(chan struct{}), over: make(chan struct{}), engines: map[string]*engine{}, past: map[string]*past{}, servers: map[*server]bool{}}
	go k.watchLease(os.NewFile(uintptr(fd), "lease"))
	for range 20 { // the watcher is in the kernel by one of these; closing comes a moment after collecting
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if err := unix.Fstat(fd, &now); err != nil || now.Ino != before.Ino || now.Dev != before.Dev {
		t.Fatalf("the lease's descriptor was closed while the process lives: %v", err)
	}
	holder.Process.Kill()
	holder.Wait()
	select {
	case <-k.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the end of the process that held the session was not seen")
	}
}
