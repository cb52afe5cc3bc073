package keeper

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/pidfd"
	"muster/internal/linux/userns"
	"muster/internal/spawner"
)

// first is an engine's init: a child of the keeper's, or of its spawner's.
type first struct {
	pid   int // in the host's process namespace
	child *os.Process
	fd    *os.File // of a spawner's child
}

func (f *first) signal(s syscall.Signal) {
	if f.child != nil {
		f.child.Signal(s)
		return
	}
	if raw, err := f.fd.SyscallConn(); err == nil { // an error: it has ended
		raw.Control(func(fd uintptr) { unix.PidfdSendSignal(int(fd), s, nil, 0) })
	}
}

// wait returns when the process has ended. It is called once, by the one who heard its last word.
func (f *first) wait() {
	if f.child != nil {
		f.child.Wait()
		return
	}
	pidfd.Ended(int(f.fd.Fd()), -1)
	f.fd.Close()
}

// spawning is the keeper's spawner. It is started when somebody wants it, and ends with the last of its inits. The keeper's spawnMu is held
// while it is asked for something.
type spawning struct {
	conn    *wire.Conn // nil: there is none
	process *os.Process
	inits   int   // that have not ended
	failed  error // it does not answer any more, or could not be started: there is none until its inits have ended
}

var errNoSpawner = errors.New("there are no namespaces for forked engines")

// spawn has the spawner carry something out, and returns what it made.
func (k *Keeper) spawn(o spawner.Order, files ...*os.File) (*os.File, error) {
	k.spawnMu.Lock()
	defer k.spawnMu.Unlock()
	s := &k.spawner
	if s.failed == nil && s.conn == nil {
		if o.Init == nil {
			return nil, errNoSpawner // whose network would it be
		}
		s.failed = s.start()
	}
	if s.failed != nil {
		return nil, s.failed
	}
	var a spawner.Answer
	if err := s.conn.Send(o, files...); err != nil {
		s.failed = fmt.Errorf("%w: %w", errNoSpawner, err)
		return nil, s.failed
	}
	made, err := s.conn.Receive(&a)
	switch {
	case err != nil:
		s.failed = fmt.Errorf("%w: %w", errNoSpawner, err)
		return nil, s.failed
	case a.Error != "":
		closeAll(made)
		s.endIfIdle()
		return nil, errors.New(a.Error)
	case len(made) != 1:
		closeAll(made)
		return nil, fmt.Errorf("the spawner gave %d descriptors instead of 1", len(made))
	}
	if o.Init != nil {
		s.inits++
	}
	return made[0], nil
}

func (s *spawning) start() error {
	conn, peer, err := wire.Pair()
	if err != nil {
		return err
	}
	defer peer.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		conn.Close()
		return err
	}
	defer null.Close()
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err = userns.Same(attr); err == nil {
		s.process, err = os.StartProcess("/proc/self/exe", []string{spawner.Name}, &os.ProcAttr{
			Dir: "/", Env: append([]string{}, failpoint.Env()...), Files: []*os.File{null, null, null, peer}, Sys: attr,
		})
	}
	if err != nil {
		conn.Close()
		return fmt.Errorf("%w: %w", errNoSpawner, err)
	}
	s.conn = conn
	return nil
}

// spawned notes that an init of the spawner's has ended. With the last one it ends itself: what it had made meanwhile for others, which come
// too late, is in namespaces that nobody enters any more.
func (k *Keeper) spawned() {
	k.spawnMu.Lock()
	defer k.spawnMu.Unlock()
	k.spawner.inits--
	k.spawner.endIfIdle()
}

func (s *spawning) endIfIdle() {
	if s.inits > 0 || s.conn == nil {
		return
	}
	s.conn.Close()
	s.process.Wait()
	s.conn, s.failed = nil, nil
}

// numberOf is the number of a pidfd's process as this process sees it, see pidfd_open(2).
func numberOf(fd *os.File) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd.Fd()))
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "Pid:"); ok {
			if pid, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && pid > 0 {
				return pid, nil
			}
		}
	}
	return 0, errors.New("the process has just ended")
}
