package fake

import (
	"os"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/linux/pidfd"
)

// lease watches the process whose end is the session's end.
type lease struct {
	pidfd *os.File
	done  chan struct{}
}

// holdLease takes a pidfd over; nil is a session that nobody's end ends.
func (p *place) holdLease(owner *os.File) error {
	if owner == nil {
		return nil
	}
	fd, err := unix.FcntlInt(owner.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	owner.Close()
	if err != nil {
		return engine.Errorf(engine.Internal, "take over the lease: %w", err)
	}
	unix.SetNonblock(fd, true) // os.NewFile hands non-blocking descriptors to the poller: no thread waits
	l := &lease{pidfd: os.NewFile(uintptr(fd), "lease"), done: make(chan struct{})}
	raw, err := l.pidfd.SyscallConn()
	if err != nil {
		l.pidfd.Close()
		return engine.Errorf(engine.Internal, "watch the lease: %w", err)
	}
	p.lease = l
	go func() {
		defer close(l.done)
		if raw.Read(ended) == nil {
			p.begin(endGrace, engine.Exit{Reason: engine.ReasonSessionEnded, By: "owner", Message: "the process that owns the session ended"},
				engine.Exit{Reason: engine.ReasonSessionEnded, By: "owner"})
		}
	}()
	return nil
}

// ended reports whether the process behind a pidfd is gone; false makes the poller wait.
func ended(fd uintptr) bool {
	return pidfd.Ended(int(fd), 0)
}

func (p *place) dropLease() {
	if p.lease != nil {
		p.lease.pidfd.Close() // wakes the watcher
		<-p.lease.done
	}
}
