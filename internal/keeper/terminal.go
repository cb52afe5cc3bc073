package keeper

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"muster/internal/console"
	"muster/internal/keeper/wire"
)

// terminalLeft bounds what is read from a terminal after all its programs ended, far above what one can hold.
const terminalLeft = 1 << 20

// terminal is the keeper's side of the terminal of an engine. What its programs show goes into the log as the engine's
// stdout, byte for byte; what is written to the engine's stdin is typed at it. The end of stdin hangs up: whoever typed is
// gone, as when a modem's line broke.
type terminal struct {
	master *os.File
	output *pump
}

// setTerminal takes over the terminal that the init made.
func (e *engine) setTerminal(master *os.File) {
	t := &terminal{master: master}
	t.output = &pump{
		engine: e, stream: console.Stdout, read: master, terminal: true, order: &sync.Mutex{}, done: make(chan struct{}), over: make(chan struct{}),
	}
	e.mu.Lock()
	e.screen = t
	e.mu.Unlock()
	go t.output.run()
	if e.input != nil {
		e.input.open(master)
	}
}

// hangUp is called when all processes of the engine are gone; it returns when what they showed is in the log.
func (e *engine) hangUp() {
	e.mu.Lock()
	t := e.screen
	e.mu.Unlock()
	if t != nil {
		t.output.finish()
		<-t.output.done
	}
	if e.input != nil {
		e.input.end()
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
