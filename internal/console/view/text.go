package view

import (
	"bytes"
	"strings"
)

// text shows what came of a line and of lines after it.
func (l *Labeler) text(ln *line, b []byte) {
	if ln.cut && len(b) > 0 {
		ln.cut = false
		if len(ln.held) == 0 && b[0] == '\n' {
			b = b[1:] // stands there already
		}
	}
	if len(b) == 0 {
		return
	}
	other := &ln.of.lines[0]
	if ln == other {
		other = &ln.of.lines[1]
	}
	if other.paints() && other.to.last == ln.to.last {
		l.release(other, nil) // on one screen what it paints belongs before this
	}
	if ln.of.session {
		l.own(ln, b)
		return
	}
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		l.show(ln, l.taken(ln), b[:i])
		l.put(ln.to, b[i:i+1])
		ln.to.last.open = nil
		b = b[i+1:]
	}
	l.begin(ln, b)
}

// own shows what came of a line of the session's own engine: whole lines at once, unlabelled.
func (l *Labeler) own(ln *line, b []byte) {
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		l.show(ln, l.taken(ln), b[:i+1])
		ln.to.last.open = nil
		b = b[i+1:]
	}
	l.begin(ln, b)
}

// begin holds the beginning of a line back if it is not too long.
func (l *Labeler) begin(ln *line, b []byte) {
	switch {
	case len(b) == 0:
	case len(ln.held)+len(b) > maxHeld:
		l.release(ln, b)
	default:
		l.hold(ln, b)
	}
}

// release shows what is held back of a line, and b after it.
func (l *Labeler) release(ln *line, b []byte) {
	l.show(ln, l.taken(ln), b)
	if l.opts.Above {
		l.separate(ln.to)
	}
}

// show continues a line if it was the last thing written, or else begins it, with its label if it has one.
func (l *Labeler) show(ln *line, parts ...[]byte) {
	if ln.of.session {
		if open := ln.to.last.open; open != nil && !open.of.session {
			l.separate(ln.to)
		}
		ln.to.last.open = ln
		for _, b := range parts {
			l.put(ln.to, b)
		}
		return
	}
	if ln.to.last.open != ln {
		l.separate(ln.to)
		l.putString(ln.to, ln.of.label)
		ln.to.last.open, ln.cr = ln, false
	}
	for _, b := range parts {
		if l.opts.Color || l.opts.Above { // above a prompt what a line painted last is left of it
			l.putRepainted(ln, b)
		} else {
			l.put(ln.to, b)
		}
	}
}

// putRepainted writes a part of a line, with its label again after a \r: what follows is written over the line. Nothing
// follows the \r of a line that ends in \r\n.
func (l *Labeler) putRepainted(ln *line, b []byte) {
	for len(b) > 0 {
		if ln.cr && b[0] != '\r' {
			l.putString(ln.to, ln.of.label)
		}
		i := bytes.IndexByte(b, '\r')
		ln.cr = i >= 0
		if !ln.cr {
			i = len(b) - 1
		}
		l.put(ln.to, b[:i+1])
		b = b[i+1:]
	}
}

// separate ends a half line, so that another can begin.
func (l *Labeler) separate(t *target) {
	if open := t.last.open; open != nil {
		l.putString(open.to, l.newline)
		open.cut = true
		t.last.open = nil
	}
}

// note writes a message of ours to stderr, in lines of their own.
func (l *Labeler) note(message string) {
	l.separate(&l.err)
	for text := range strings.SplitSeq(strings.TrimRight(message, "\n"), "\n") {
		l.putString(&l.err, "muster: "+printable(text)+"\n")
	}
}

// put keeps b for send, in the order in which the two targets are written to.
func (l *Labeler) put(t *target, b []byte) {
	l.room(t, len(b))
	t.buf = append(t.buf, b...)
}

func (l *Labeler) putString(t *target, s string) {
	l.room(t, len(s))
	t.buf = append(t.buf, s...)
}

// room sends what has to go before n bytes for t: the other target's, so that a terminal shows both in order, and t's
// own if it grows too large.
func (l *Labeler) room(t *target, n int) {
	other := &l.out
	if t == other {
		other = &l.err
	}
	l.sendTo(other)
	if len(t.buf)+n > maxHeld {
		l.sendTo(t)
	}
}

// send writes what was put and returns the first error there ever was.
func (l *Labeler) send() error {
	l.sendTo(&l.out)
	l.sendTo(&l.err)
	return l.fail
}

func (l *Labeler) sendTo(t *target) {
	if len(t.buf) == 0 {
		return
	}
	if l.fail == nil {
		_, l.fail = t.w.Write(t.buf)
	}
	t.buf = t.buf[:0]
}
