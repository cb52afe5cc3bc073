package app

import (
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/internal/cli"
)

// A server that ends, and one that does not begin, leave no locks.
func TestLocksGoWithTheServer(t *testing.T) {
	dir := t.TempDir()
	o := cli.UpOptions{Listen: "tcp://127.0.0.1:1", TokenFile: filepath.Join(dir, "token.1")}
	starting, lock, err := lockServer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if names := list(t, dir); names != ".token.1.lock .token.1.starting" {
		t.Errorf("locks: %s", names)
	}
	starting.release()
	again, _, err := lockServer(t.Context(), o)
	if _, runs := errors.AsType[*cli.ServerRunsError](err); !runs {
		t.Errorf("a second server: %v, %v", again, err)
	}
	starting.release() // again: it is nobody's by now
	lock.release()
	if names := list(t, dir); names != "" {
		t.Errorf("left: %s", names)
	}
	t.Setenv("MUSTER_CACHE_DIR", t.TempDir())
	o.StateDir, o.Rung, o.Log = t.TempDir(), "no such rung", t.Output()
	if err := serveUp(t.Context(), o); err == nil {
		t.Error("no error")
	}
	if names := list(t, dir); names != "" {
		t.Errorf("left: %s", names)
	}
}

// otherServer holds the lock and listens until it is told to let go.
const otherServer = `
import fcntl, signal, socket, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
at = socket.socket(socket.AF_UNIX)
at.bind(sys.argv[2])
at.listen()
print("up", flush=True)
signal.pause()
`

// While a server that is replaced ends, somebody who needs one may start another: that is replaced, too.
func TestReplacesWhatCameInBetween(t *testing.T) {
	dir := t.TempDir()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	o := cli.UpOptions{
		Listen: "unix://" + filepath.Join(dir, "socket"), TokenFile: filepath.Join(dir, "token"), Replaces: gone.Process.Pid,
	}
	other := exec.Command("python3", "-c", otherServer, filepath.Join(dir, ".token.lock"), filepath.Join(dir, "socket"))
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Process.Kill()
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		other.Wait()
		close(ended)
	}()
	starting, lock, err := lockServer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	<-ended
	starting.release()
	lock.release()
}

// dyingServer holds the lock and listens, hangs up on the first who asks, and is gone a moment later.
const dyingServer = `
import fcntl, os, socket, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
at = socket.socket(socket.AF_UNIX)
at.bind(sys.argv[2])
at.listen()
print("up", flush=True)
at.accept()[0].close()
at.settimeout(0.3)
try:
    while True:
        at.accept()[0].close()
except OSError:
    pass
`

// A server that was killed a moment ago still holds what it held: the next one waits for its end.
func TestServersThatAreDying(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Minute} {
		dir := t.TempDir()
		socket := filepath.Join(dir, "socket")
		other := exec.Command("python3", "-c", dyingServer, filepath.Join(dir, ".token.lock"), socket)
		out, err := other.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		reaped := make(chan struct{})
		go func() { other.Wait(); close(reaped) }()
		if idle == 0 {
			if !cli.Dying(socket, other.Process.Pid) {
				t.Error("it is taken for one that serves")
			}
		}
		starting, lock, err := lockServer(t.Context(), cli.UpOptions{Listen: "unix://" + socket, TokenFile: filepath.Join(dir, "token"), UntilIdle: idle})
		if err != nil {
			t.Fatal(idle, err)
		}
		<-reaped
		starting.release()
		lock.release()
	}
}

// Though the file is removed by each who held the lock, there is one of them at a time.
func TestOneHoldsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				l, err := tryLock(path)
				if err != nil {
					continue // another one's
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold it", n)
				}
				for range 100 { // let others try
					runtime.Gosched()
				}
				holders.Add(-1)
				l.release()
			}
		})
	}
	all.Wait()
	if names := list(t, filepath.Dir(path)); names != "" {
		t.Errorf("left: %s", names)
	}
}
