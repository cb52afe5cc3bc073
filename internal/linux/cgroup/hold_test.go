package cgroup

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Everybody on the machine may lock a folder that they may read, as those of control groups are: that keeps no engine from starting.
func TestHoldIsNobodysToRefuse(t *testing.T) {
	dir := t.TempDir()
	stranger, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := unix.Flock(int(stranger.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	g := Open(Paths{V2: dir})
	held, err := g.Hold()
	if err != nil {
		t.Fatal(err)
	}
	if held != nil {
		t.Error("it is held, although somebody else has it alone")
		held.Close()
	}
	if !g.Held() {
		t.Error("nobody is said to hold it")
	}
}
