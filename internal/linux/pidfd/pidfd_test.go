package pidfd

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While signals interrupt the wait all the time, a process that lives is not taken for one that ended.
func TestEnded(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				syscall.Kill(syscall.Getpid(), syscall.SIGURG) // which Go's runtime uses itself, and ignores
			}
		}
	}()
	for range 2000 {
		if Ended(fd, 0) {
			t.Fatal("it lives")
		}
	}
	if begun := time.Now(); Ended(fd, 50*time.Millisecond) || time.Since(begun) < 50*time.Millisecond {
		t.Errorf("it lives, and the wait took %v", time.Since(begun))
	}
	cmd.Process.Kill() // a zombie has ended
	if !Ended(fd, -1) || !Ended(fd, 0) {
		t.Error("it has ended")
	}
	close(stop)
	<-done
	cmd.Wait()
	if !Ended(1<<20, 0) {
		t.Error("no descriptor: taken for a process that lives")
	}
}
