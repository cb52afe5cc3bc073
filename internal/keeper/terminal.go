package keeper

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"muster/internal/console"
	"muster/internal/keeper/wire"
)

// terminalLeft bounds what is read from a terminal after all its programs ended, far above what one can hold.
const terminalLeft = 1 << 20

// terminal is the keeper's side of the terminal of an engine. What its programs show goes into the log as the engine's
// stdout, byte for byte; what comes from the engine's stdin is typed at it. The end of stdin hangs up: whoever typed is
// gone, as when a modem's line broke.
type terminal struct {
	master *os.File
	output *pump
	typed  chan struct{} // closed when typing ended
}

// openEnd returns a descriptor of its own for the reading end of stdin, whose reads end when it is closed.
func openEnd(stdin *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(stdin.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "stdin"), nil
}

// setTerminal takes over the terminal that the init made.
func (e *engine) setTerminal(master *os.File) {
	t := &terminal{master: master, typed: make(chan struct{})}
	t.output = &pump{
		engine: e, stream: console.Stdout, read: master, terminal: true, order: &sync.Mutex{}, done: make(chan struct{}), over: make(chan struct{}),
	}
	e.mu.Lock()
	e.screen = t
	e.mu.Unlock()
	go t.output.run()
	go func() {
		defer close(t.typed)
		if e.stdin == nil {
			return
		}
		_, err := io.Copy(onlyWriter{master}, onlyReader{e.stdin})
		if err == nil { // the end of what is typed, and not of the terminal
			master.Close() // the kernel sends SIGHUP to the interpreter and to what runs in its foreground
		}
	}()
}

// onlyReader and onlyWriter keep io.Copy from splicing, which a terminal refuses.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// hangUp is called when all processes of the engine are gone; it returns when what they showed is in the log.
func (e *engine) hangUp() {
	e.mu.Lock()
	t := e.screen
	e.mu.Unlock()
	if t != nil {
		t.output.finish()
		<-t.output.done // the master is closed, so that typing ends
	}
	if e.stdin != nil {
		e.stdin.Close()
	}
	if t != nil {
		<-t.typed
	}
}

// resize sets the size of the terminal; the kernel tells its programs.
func (e *engine) resize(size *wire.TerminalSize) error {
	e.mu.Lock()
	t := e.screen
	e.mu.Unlock()
	if t == nil || size == nil {
		return errNotFound
	}
	raw, err := t.master.SyscallConn()
	if err != nil {
		return errNotFound
	}
	err = raw.Control(func(fd uintptr) {
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Rows), Col: uint16(size.Cols)})
	})
	if err != nil { // closed: the engine has ended
		return errNotFound
	}
	return nil
}
