package app

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/cli"
)

// fileLock is a locked file. It is removed while it is locked, so that nothing stays: whoever has it open already then locks
// a file that is not there any more, notices, and takes the one that is.
type fileLock struct {
	file *os.File
	once sync.Once
}

// release removes the file and its lock; only the first call counts.
func (l *fileLock) release() {
	l.once.Do(func() {
		os.Remove(l.file.Name())
		l.file.Close()
	})
}

// lockServer makes sure that two servers that start at the same moment do not take each other's socket. There are two
// locks, both gone with the process, however it ends (their files stay only where it is killed): one is held as long as the server is, the other only until it
// answers, so that whoever gets that one knows: another server answers, or there is none, or one that is just ending.
func lockServer(ctx context.Context, o cli.UpOptions) (starting, lock *fileLock, err error) {
	name := filepath.Join(filepath.Dir(o.TokenFile), "."+filepath.Base(o.TokenFile))
	if starting, err = lockFile(ctx, name+".starting", lockWait); err != nil {
		return nil, nil, err
	}
	if o.UntilIdle > 0 && o.Replaces == 0 && answers(ctx, o.Listen) && !cli.Dying(strings.TrimPrefix(o.Listen, "unix://"), listening(ctx, o.Listen)) {
		starting.release()
		return nil, nil, cli.ServerRuns(o.Listen, "muster ps shows it")
	}
	if o.Replaces > 0 {
		// Whoever missed the one that was to be replaced may have started another before we had this lock; now nobody can.
		if err := letGo(listening(ctx, o.Listen)); err != nil {
			starting.release()
			return nil, nil, err
		}
	}
	wait := cli.DyingTime // one that was killed holds its lock a little longer than it answers
	if o.UntilIdle > 0 || o.Replaces > 0 {
		wait = lockWait
	}
	if lock, err = lockFile(ctx, name+".lock", wait); err != nil {
		starting.release()
		return nil, nil, err
	}
	return starting, lock, nil
}

// lockWait is longer than a server takes to start or to end.
const lockWait = 2 * closeTimeout

// lockFile takes a lock, and looks again and again for a bounded time: waiting in the kernel could not be ended by ctx.
func lockFile(ctx context.Context, path string, wait time.Duration) (*fileLock, error) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for late := time.After(wait); ; {
		l, err := tryLock(path)
		switch {
		case err == nil:
			return l, nil
		case err != unix.EWOULDBLOCK:
			return nil, err
		}
		select {
		case <-again.C:
		case <-late:
			if wait < lockWait {
				return nil, cli.ServerRuns("it holds "+path, "muster ps shows it")
			}
			return nil, engine.Errorf(engine.Conflict, "a server holds %s and does not answer", path)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryLock makes the file if it is not there, and locks it; EWOULDBLOCK says that somebody else has.
func tryLock(path string) (*fileLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, engine.Errorf(engine.Unavailable, "the server's folder cannot be written: %v", err)
		}
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			held, heldErr := f.Stat()
			there, thereErr := os.Lstat(path)
			if heldErr == nil && thereErr == nil && os.SameFile(held, there) {
				return &fileLock{file: f}, nil
			}
		}
		f.Close()
		if err != nil && err != unix.EINTR {
			return nil, err
		}
	}
}

// listening is the process that listens at a unix socket; 0 if nobody does, or if that cannot be told.
func listening(ctx context.Context, address string) (pid int) {
	path, isUnix := strings.CutPrefix(address, "unix://")
	if !isUnix {
		return 0
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// answers reports whether a server listens at an address.
func answers(ctx context.Context, address string) bool {
	network, at := "unix", strings.TrimPrefix(address, "unix://")
	if hostport, ok := strings.CutPrefix(address, "tcp://"); ok {
		network, at = "tcp", hostport
	}
	c, err := new(net.Dialer).DialContext(ctx, network, at)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
