package app

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/cli"
)

// lockServer makes sure that two servers that start at the same moment do not take each other's socket. There are two
// locks, both gone with the process, however it ends: one is held as long as the server is, the other only until it
// answers, so that whoever gets that one knows: another server answers, or there is none, or one that is just ending.
func lockServer(ctx context.Context, o cli.UpOptions) (starting, lock *os.File, err error) {
	name := filepath.Join(filepath.Dir(o.TokenFile), "."+filepath.Base(o.TokenFile))
	if starting, err = lockFile(ctx, name+".starting", true); err != nil {
		return nil, nil, err
	}
	if o.UntilIdle > 0 && answers(ctx, o.Listen) {
		starting.Close()
		return nil, nil, cli.ServerRuns(o.Listen, "muster ps shows it")
	}
	if lock, err = lockFile(ctx, name+".lock", o.UntilIdle > 0); err != nil {
		starting.Close()
		return nil, nil, err
	}
	return starting, lock, nil
}

// lockWait is longer than a server takes to start or to end.
const lockWait = 2 * closeTimeout

// lockFile takes a lock. If it is to wait, it looks again and again for a bounded time: waiting in the kernel could not be
// ended by ctx.
func lockFile(ctx context.Context, path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the server's folder cannot be written: %v", err)
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for late := time.After(lockWait); ; {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		if !wait || err != unix.EWOULDBLOCK && err != unix.EINTR {
			break
		}
		select {
		case <-again.C:
			continue
		case <-late:
			err = engine.Errorf(engine.Conflict, "a server holds %s and does not answer", path)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		break
	}
	f.Close()
	if err == unix.EWOULDBLOCK {
		return nil, cli.ServerRuns("it holds "+path, "muster ps shows it")
	}
	return nil, err
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
