package cli

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"muster/api"
	"muster/engine"
)

// tty is the person's terminal.
type tty struct {
	in, out *os.File

	mu    sync.Mutex
	state *term.State // as it was; nil: it is as it was
}

// size is the terminal's, or what terminals are if it does not say.
func (t *tty) size() api.TerminalSize {
	cols, rows, err := term.GetSize(int(t.out.Fd()))
	if err != nil || rows <= 0 || cols <= 0 {
		return api.TerminalSize{Rows: 24, Cols: 80}
	}
	return api.TerminalSize{Rows: rows, Cols: cols}
}

// makeRaw lets every key through as it is typed: the engine's own terminal makes signals of some.
func (t *tty) makeRaw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return engine.Errorf(engine.Unavailable, "the terminal cannot be made raw: %w", err)
	}
	t.state = state
	return nil
}

// again makes it raw once more, if it is to be.
func (t *tty) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != nil {
		term.MakeRaw(int(t.in.Fd()))
	}
}

// restore gives the terminal back as it was.
func (t *tty) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != nil {
		term.Restore(int(t.in.Fd()), t.state)
		t.state = nil
	}
}

// guarded restores the terminal before a panic of f ends the program: it has a trace to show, and a shell to come back to.
func (t *tty) guarded(f func()) func() {
	return func() {
		whole := false
		defer func() {
			if !whole {
				t.restore()
			}
		}()
		f()
		whole = true
	}
}

// leaveKey is Ctrl-\, and leaveTimes how often in a row it must be typed to be meant for us.
const (
	leaveKey   = 0x1c
	leaveTimes = 3
)

// keys reads what is typed. When nothing answers any more, no key reaches anybody: one of them is ours.
type keys struct {
	in    io.Reader
	leave func()
	times int // Ctrl-\ was typed in a row
}

func (k *keys) Read(p []byte) (int, error) {
	n, err := k.in.Read(p)
	for _, b := range p[:max(n, 0)] {
		switch {
		case b == leaveKey:
			if k.times++; k.times >= leaveTimes {
				k.leave()
			}
		case k.times < leaveTimes:
			k.times = 0
		}
	}
	return n, err
}
