package keeper

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

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

// spawning is the keeper's spawner. It is started when somebody wants it, and ends with the last of its inits.
type spawning struct {
	asking sync.Mutex // held while it is asked for something

	mu      sync.Mutex
	conn    *wire.Conn // nil: there is none
	process *os.Process
	inits   int   // that have not ended, or are just being started
	failed  error // it does not answer any more: there is none until its inits have ended
}

var errNoSpawner = errors.New("there are no namespaces for forked engines")

// answerWithin bounds how long the spawner may take: one that was stopped from outside never answers.
const answerWithin = 10 * time.Second

// spawn has the spawner carry something out, and returns what it made.
func (s *spawning) spawn(o spawner.Order, files ...*os.File) (made *os.File, err error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	conn, err := s.begin(o.Init != nil)
	if err != nil {
		return nil, err
	}
	if o.Init != nil {
		defer func() {
			if err != nil {
				s.ended()
			}
		}()
	}
	made, refused, broken := ask(conn, o, files)
	if broken == nil {
		return made, refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = fmt.Errorf("%w: %w", errNoSpawner, broken)
	return nil, s.failed
}

// begin returns the connection to the spawner, which is started for an init if there is none.
func (s *spawning) begin(init bool) (*wire.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil && s.conn == nil {
		if !init {
			return nil, errNoSpawner // whose network would it be
		}
		if err := s.startLocked(); err != nil {
			return nil, err
		}
	}
	if s.failed != nil {
		return nil, s.failed
	}
	if init {
		s.inits++
	}
	return s.conn, nil
}

func ask(conn *wire.Conn, o spawner.Order, files []*os.File) (made *os.File, refused, err error) {
	if err := conn.SendWithin(answerWithin, o, files...); err != nil {
		return nil, nil, err
	}
	var a spawner.Answer
	got, err := conn.ReceiveWithin(answerWithin, &a)
	switch {
	case err != nil:
		return nil, nil, err
	case a.Error != "":
		closeAll(got)
		return nil, errors.New(a.Error), nil
	case len(got) != 1:
		closeAll(got)
		return nil, nil, fmt.Errorf("the spawner gave %d descriptors instead of 1", len(got))
	}
	return got[0], nil, nil
}

func (s *spawning) startLocked() error {
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

// kill ends the spawner and all that lives in its namespaces.
func (s *spawning) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.process.Kill()
	}
}

// ended notes that an init of the spawner's has ended, or came to nothing. With the last one the spawner ends: networks that it had made for
// others, which come too late, are of namespaces that nobody enters any more.
func (s *spawning) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inits--; s.inits > 0 || s.conn == nil {
		return
	}
	s.conn.Close()
	s.process.Kill() // it may have been stopped
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
