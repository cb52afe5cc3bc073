package keeper

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/console"
)

// buffers are shared by all pumps: an engine that prints nothing holds none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, console.HeaderSize+console.MaxPayload)
	return &b
}}

// fullDiskRetry is how often an append is tried again while the disk is full. Nothing tells when room appears.
const fullDiskRetry = 250 * time.Millisecond

// lastRetries bounds the tries after the engine's end: a session must end although its disk stays full.
const lastRetries = 4

// pump carries what an engine writes to one stream into its log: read, append, tell. It holds the engine up while the disk
// is full (the pipe fills and the engine waits) rather than lose a byte.
//
// Two pipes do not tell which was written to first. So the pumps of an engine read and append one after the other, and what
// is in stdout goes before what was read of stderr: a traceback stands behind the prints that came before it.
type pump struct {
	engine   *engine
	stream   console.Stream
	read     *os.File
	order    *sync.Mutex // held from reading to appending; shared by an engine's pumps
	first    *pump       // what is in its pipe goes before what this one reads; nil: nothing
	done     chan struct{}
	over     chan struct{} // closed by finish
	terminal bool          // read is the master of a terminal
	full     bool          // the last append had to wait: it was told
	lost     int           // bytes given up after the engine's end
}

// newPump returns a pump and the writing end of its pipe.
func newPump(e *engine, stream console.Stream, first *pump) (*pump, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	p := &pump{
		engine: e, stream: stream, read: os.NewFile(uintptr(fds[0]), stream.String()),
		order: &sync.Mutex{}, first: first, done: make(chan struct{}), over: make(chan struct{}),
	}
	if first != nil {
		p.order = first.order
	}
	return p, os.NewFile(uintptr(fds[1]), stream.String()), nil
}

func (p *pump) close() error { return p.read.Close() }

// run carries until the end of file, or, after finish, until what the engine wrote is read.
func (p *pump) run() {
	defer close(p.done)
	defer p.tellLost()
	defer p.read.Close()
	raw, err := p.read.SyscallConn()
	if err != nil {
		return
	}
	for {
		n := 0
		var buf *[]byte
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			p.order.Lock()
			buf = buffers.Get().(*[]byte)
			n, readErr = p.readOnce(int(fd), *buf)
			if readErr == unix.EAGAIN {
				buffers.Put(buf)
				p.order.Unlock()
				return false // wait until there is something, without holding anything
			}
			return true
		})
		if err != nil { // the deadline that finish set
			p.order.Lock()
			defer p.order.Unlock()
			p.drain()
			return
		}
		if n > 0 {
			if p.first != nil {
				p.first.carryPresent()
			}
			p.append((*buf)[:console.HeaderSize+n])
		}
		buffers.Put(buf)
		p.order.Unlock()
		if n <= 0 || readErr != nil {
			return
		}
	}
}

func (p *pump) readOnce(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf[console.HeaderSize:])
		if err != unix.EINTR {
			return n, err
		}
	}
}

// carryPresent carries what is in the pipe at this moment, for another pump, which holds order.
func (p *pump) carryPresent() {
	raw, err := p.read.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { // an error: it is closed, and empty
		if left, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil && left > 0 {
			p.carry(int(fd), left)
		}
	})
}

// drain reads what is in the pipe already, and no more: every process of the engine is gone, but somebody else still holds
// the pipe's other end, perhaps writes to it, and no end of file comes.
func (p *pump) drain() {
	fd := int(p.read.Fd())
	unix.SetNonblock(fd, true)
	left, err := terminalLeft, error(nil) // what was written to a terminal is on its way until a read asks for it
	if !p.terminal {
		left, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
	}
	if err == nil {
		p.carry(fd, left)
	}
}

// carry reads and appends at most a number of bytes, as far as they are there.
func (p *pump) carry(fd, left int) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for left > 0 {
		n, _ := p.readOnce(fd, (*buf)[:min(len(*buf), console.HeaderSize+left)])
		if n <= 0 {
			return
		}
		left -= n
		p.append((*buf)[:console.HeaderSize+n])
	}
}

// append writes one record; while the disk is full it says so once and tries again. Once it had to give up after the
// engine's end it gives everything up: the session must end.
func (p *pump) append(buf []byte) {
	k := p.engine.keeper
	now := time.Now()
	if p.lost > 0 {
		p.lost += len(buf) - console.HeaderSize
		return
	}
	err := p.engine.log.AppendBuffer(p.stream, 0, now, buf)
	if err != nil && !p.full {
		k.notice(fmt.Sprintf("the output of %s cannot be written (%v): it waits until there is room in %s, nothing is lost",
			p.whose(), reason(err), k.config.ConsoleDir))
	}
	p.full = err != nil
	for tries := 0; err != nil; {
		select {
		case <-p.over:
			if tries++; tries > lastRetries {
				p.lost = len(buf) - console.HeaderSize
				return
			}
		default:
		}
		time.Sleep(fullDiskRetry)
		err = p.engine.log.AppendBuffer(p.stream, 0, now, buf)
	}
	k.wrote()
}

// whose output it is, in words of the session's.
func (p *pump) whose() string {
	if p.engine.id == p.engine.keeper.config.Session {
		return "the session's own engine"
	}
	return "engine " + p.engine.id
}

func (p *pump) tellLost() {
	if p.lost > 0 {
		p.engine.keeper.notice(fmt.Sprintf("%d bytes that engine %s wrote to %s were lost: the disk stayed full after its end", p.lost, p.engine.id, p.stream))
	}
}

func reason(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// finish is called when all processes of the engine are gone; done is closed when everything they wrote is in the log.
func (p *pump) finish() {
	close(p.over)
	p.read.SetReadDeadline(time.Now())
}
