package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"muster/api"
	"muster/internal/console/screen"
)

const (
	// maxWaiting bounds the bytes of lines that wait for the end of a full-screen program. They are all in the log.
	maxWaiting = 1 << 20
	// maxPart bounds a line that does not end.
	maxPart = 64 << 10
)

// display is what a person sees of an interactive session: what its own engine shows, byte for byte and at once, and above
// what it is drawing the lines of the others. As an io.Writer it takes those.
type display struct {
	out     io.Writer
	session string

	mu      sync.Mutex
	screen  *screen.Screen
	part    []byte   // of a line
	lines   []string // to be shown
	waiting int      // bytes in lines
	dropped int      // lines that waited too long
	fail    error
}

func newDisplay(out io.Writer, size api.TerminalSize, session string) *display {
	return &display{out: out, session: session, screen: screen.New(size.Rows, size.Cols)}
}

// own shows what the session's own engine printed, after what came before it.
func (d *display) own(p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushLocked()
	d.show(p)
	return d.fail
}

// Write takes lines of workers, and messages. They are shown by flush at the latest.
func (d *display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.take(p)
	return len(p), d.fail
}

// say is Write for what comes from somewhere else.
func (d *display) say(p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.take(p)
	d.flushLocked()
}

func (d *display) take(p []byte) {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		d.add(string(d.part) + string(p[:i]))
		d.part, p = d.part[:0], p[i+1:]
	}
	if d.part = append(d.part, p...); len(d.part) > maxPart {
		d.add(string(d.part))
		d.part = nil
	}
}

func (d *display) add(line string) {
	line = screen.Line(line)
	d.lines = append(d.lines, line)
	d.waiting += len(line)
	n := 0
	for d.waiting > maxWaiting && d.screen.FullScreen() {
		d.waiting -= len(d.lines[n])
		n++
	}
	d.lines, d.dropped = d.lines[n:], d.dropped+n
	if d.waiting > maxWaiting {
		d.flushLocked()
	}
}

// flush shows the lines that wait, if this is the moment for it: not while a full-screen program runs, and not in the middle
// of a sequence.
func (d *display) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushLocked()
	return d.fail
}

func (d *display) flushLocked() {
	if len(d.lines) == 0 || d.screen.FullScreen() || !d.screen.Between() {
		return
	}
	if d.dropped > 0 {
		note := fmt.Sprintf("muster: %d lines of workers are not shown here; muster logs %s has them", d.dropped, d.session)
		d.lines = append([]string{note}, d.lines...)
	}
	d.write(d.screen.Above(d.lines))
	d.lines, d.waiting, d.dropped = nil, 0, 0
}

// show writes to the terminal and to its model.
func (d *display) show(p []byte) {
	d.write(p)
	d.screen.Write(p)
}

func (d *display) write(p []byte) {
	if d.fail == nil {
		_, d.fail = d.out.Write(p)
	}
}

func (d *display) resize(size api.TerminalSize) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.screen.Resize(size.Rows, size.Cols)
}

// finish shows what was still to be shown, and gives the terminal back without what a program left on.
func (d *display) finish() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.screen.Between() {
		d.show([]byte{0x18}) // cancels a sequence
	}
	d.show(d.screen.Reset())
	if len(d.part) > 0 {
		d.take([]byte("\n"))
	}
	d.flushLocked()
	return d.fail
}

// switchedLog is where the server inside writes: to stderr, and while a session has the terminal above its prompt.
type switchedLog struct {
	to io.Writer

	mu  sync.Mutex
	now *display
}

func (l *switchedLog) switchTo(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now, _ = w.(*display)
}

func (l *switchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		return l.to.Write(p)
	}
	l.now.say([]byte(strings.TrimRight(string(p), "\n") + "\n"))
	return len(p), nil
}
