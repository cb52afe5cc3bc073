package keeper

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
	"muster/internal/spawner"
)

// A zygote is an interpreter that never gets work, but forks others that do: they have then what it has imported. It is prepared like an
// engine that waits, and ends like one. The init of an engine asks it, by a message with the namespaces that the fork is to enter.
type zygote struct {
	mu   sync.Mutex
	asks *os.File // nil: not made yet, or gone
}

// pair makes the socket, and returns the zygote's end of it.
func (z *zygote) pair() (asked *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	z.mu.Lock()
	z.asks = os.NewFile(uintptr(fds[0]), "zygote")
	z.mu.Unlock()
	return os.NewFile(uintptr(fds[1]), "zygote's"), nil
}

// copy is another descriptor of where it is asked.
func (z *zygote) copy() (*os.File, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.asks == nil {
		return nil, errNotFound
	}
	fd, err := unix.FcntlInt(z.asks.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "zygote"), nil
}

func (z *zygote) close() {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.asks != nil {
		z.asks.Close()
		z.asks = nil
	}
}

// parent returns where a zygote is asked that waits for it.
func (k *Keeper) parent(id string) (*os.File, error) {
	k.mu.Lock()
	e := k.waiting[id]
	there := e != nil && e.zygote != nil && e.ahead.ready && !e.ahead.over
	k.mu.Unlock()
	if !there {
		return nil, errNotFound
	}
	return e.zygote.copy()
}

// network answers with a network for an engine that a zygote forks.
func (k *Keeper) network(s *server, r wire.Request) {
	ns, err := k.spawner.spawn(spawner.Order{Network: true})
	if err != nil {
		s.put(replyTo(r, err))
		return
	}
	s.send(outgoing{event: replyTo(r, nil), files: []*os.File{ns}, last: true})
}
