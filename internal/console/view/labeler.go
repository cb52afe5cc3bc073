// Package view shows a console to people: the records of several engines become whole labelled lines on a terminal or
// in a pipe. The session's own output passes byte for byte; each worker's lines begin with its name or short id.
//
// A line is held back until its newline comes, but only for a moment and 64 kB, so that what one print wrote in pieces
// is not torn apart by others' lines: these may overtake it. The moment is a second for a worker, which may have to wait so
// long for a CPU between two pieces, and shorter where a person looks on: for the session's own lines, and for those that
// paint themselves anew, which the other stream of the same engine does not overtake either. Then its beginning is shown
// (a prompt, for instance), and
// what follows continues it if nothing else was printed meanwhile, or else begins a line of its own. No label is ever put
// behind somebody's half line: a newline is inserted, the session's own output is no exception. One is inserted too when a
// worker ends in a half line: whoever prints next, not through a Labeler perhaps, begins a line of its own. Nothing that an
// engine printed is changed or left out; the newline of a line that was ended so is shown once.
//
// Above a prompt nothing can be continued: there a half line is ended as soon as it is shown, and what follows gets a label
// of its own. A line that paints itself anew waits there until it is whole or its worker ends, because each of its states
// would stay as a line.
//
// The CLI imports it. It looks at package console only.
package view

import (
	"bytes"
	"io"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"muster/internal/console"
)

// Options of a Labeler. The zero value is right for a pipe without a session's own engine.
type Options struct {
	Color   bool          // the output is a terminal: coloured labels, and a label again after each \r
	Partial time.Duration // how long the beginning of a line is held back; 0: 100 ms, for workers ten times that
	Whole   bool          // nobody waits for what is shown: lines are held back until they are whole
	Above   bool          // it is shown above a prompt: whole lines only are written there
	Shown   func()        // called when a moment is over and something was written outside of Write; not to call the Labeler
	Session string        // the session's own engine: its output is not labelled
}

// maxHeld is how much of a line is held back at most.
const maxHeld = 64 << 10

// never is longer than anybody watches for a half line.
const never = 24 * time.Hour

// Labeler writes records as lines. Its methods may be called at the same time.
type Labeler struct {
	opts    Options
	newline string // what is inserted behind a half line

	mu      sync.Mutex
	out     target
	err     target
	engines map[string]*engine
	workers int     // engines with a label
	waiting []*line // lines with something held back
	fail    error   // the first error of a writer

	timer  *time.Timer
	armed  bool           // the timer runs, or is about to call expire
	at     time.Time      // when it runs out
	timing sync.WaitGroup // one while armed
	closed bool
}

// target is one of the two writers and what is to be written to it.
type target struct {
	w    io.Writer
	buf  []byte
	last *cursor
}

// cursor is where the writing stands on a terminal or in a file; two targets that are the same place share one.
type cursor struct {
	open *line // the line whose beginning was written last, without a newline; nil: at the start of a line
}

// engine is one whose records have come.
type engine struct {
	session bool
	number  int // of the worker: its colour
	label   string
	name    string  // in it
	lines   [2]line // of its stdout and of its stderr
}

// line is the line that an engine's stream is printing.
type line struct {
	of   *engine
	to   *target
	held []byte
	due  time.Time // when what is held back is shown
	cr   bool      // the last byte written of it was \r
	cut  bool      // it was shown in part and a newline inserted: its own, if that comes next, is not shown again
}

// NewLabeler returns a Labeler that writes to stdout and stderr. Close it in the end.
func NewLabeler(stdout, stderr io.Writer, opts Options) *Labeler {
	if opts.Partial <= 0 {
		opts.Partial = 100 * time.Millisecond
	}
	if opts.Whole {
		opts.Partial = never
	}
	l := &Labeler{opts: opts, newline: "\n", engines: map[string]*engine{}}
	l.out = target{w: stdout, last: &cursor{}}
	l.err = target{w: stderr, last: &cursor{}}
	if samePlace(stdout, stderr, opts.Color) {
		l.err.last = l.out.last
	}
	return l
}

// samePlace reports whether what is written to a and to b ends up on the same screen or in the same file. Where one of
// them does not say, otherwise is the answer.
func samePlace(a, b io.Writer, otherwise bool) bool {
	type stater interface{ Stat() (os.FileInfo, error) }
	fa, ok := a.(stater)
	fb, also := b.(stater)
	if ok && also {
		ia, errA := fa.Stat()
		ib, errB := fb.Stat()
		return errA == nil && errB == nil && os.SameFile(ia, ib)
	}
	return otherwise || reflect.TypeOf(a).Comparable() && a == b
}

// Write shows a record, or holds it back for a moment. The error is the first one of a writer.
func (l *Labeler) Write(r console.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	switch r.Stream {
	case console.Stdout:
		l.text(&l.engine(r.Engine).lines[0], r.Payload)
	case console.Stderr:
		l.text(&l.engine(r.Engine).lines[1], r.Payload)
	case console.Event:
		l.event(r)
	}
	return l.send()
}

// flush shows everything that is held back, and ends a worker's half line.
func (l *Labeler) flush() error {
	for len(l.waiting) > 0 {
		l.release(l.waiting[0], nil)
	}
	for _, t := range []*target{&l.out, &l.err} {
		if t.last.open != nil && !t.last.open.of.session {
			l.separate(t)
		}
	}
	return l.send()
}

// Close flushes and ends the timer.
func (l *Labeler) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	err := l.flush()
	l.closed = true
	if l.armed && l.timer.Stop() {
		l.armed = false
		l.timing.Done()
	}
	l.mu.Unlock()
	l.timing.Wait()
	return err
}

// hold keeps the beginning of a line back and sees to it that it is shown in time.
func (l *Labeler) hold(ln *line, b []byte) {
	soon := time.Now().Add(l.opts.Partial)
	if len(ln.held) == 0 {
		l.waiting = append(l.waiting, ln)
		ln.due = soon
		if !ln.of.session {
			ln.due = soon.Add(9 * l.opts.Partial)
		}
	}
	ln.held = append(ln.held, b...)
	if paints := ln.paints(); paints && l.opts.Above {
		ln.due = soon.Add(never)
	} else if paints && soon.Before(ln.due) {
		ln.due = soon
	}
	l.arm()
}

// paints reports whether the line steers a terminal, as progress bars do.
func (ln *line) paints() bool { return bytes.ContainsAny(ln.held, "\r\b\x1b") }

// arm sets the timer to the first line that is due.
func (l *Labeler) arm() {
	if len(l.waiting) == 0 {
		return
	}
	first := slices.MinFunc(l.waiting, func(a, b *line) int { return a.due.Compare(b.due) }).due
	if l.armed {
		if !first.Before(l.at) || !l.timer.Stop() {
			return // it runs out first, or just does, and then arms itself
		}
		l.timing.Done()
	}
	l.armed, l.at = true, first
	l.timing.Add(1)
	l.timer = time.AfterFunc(time.Until(first), l.expire)
}

// expire shows what was held back long enough.
func (l *Labeler) expire() {
	defer l.timing.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if l.closed {
		return
	}
	for _, ln := range slices.Clone(l.waiting) {
		if !time.Now().Before(ln.due) {
			l.release(ln, nil)
		}
	}
	l.send()
	if l.opts.Shown != nil {
		l.opts.Shown()
	}
	l.arm()
}

// taken returns what was held back of a line, which is to be shown now.
func (l *Labeler) taken(ln *line) []byte {
	b := ln.held
	ln.held = ln.held[:0]
	if cap(b) > 4<<10 {
		ln.held = nil
	}
	if len(b) > 0 {
		l.waiting = slices.DeleteFunc(l.waiting, func(w *line) bool { return w == ln })
	}
	return b
}
