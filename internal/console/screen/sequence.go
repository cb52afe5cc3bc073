package screen

import (
	"fmt"
	"slices"
	"strings"
)

// Private modes that matter here.
const (
	modeCursor    = 25
	modePaste     = 2004
	modeAutowrap  = 7
	modeAlternate = 1049
)

// sequence carries out a control sequence.
func (s *Screen) sequence(final byte, params string) {
	if rest, private := strings.CutPrefix(params, "?"); private {
		if final == 'h' || final == 'l' {
			for _, n := range numbers(rest) {
				s.setMode(n, final == 'h')
			}
		}
		return
	}
	ns := numbers(params)
	if final == 'n' {
		s.answer(ns)
		return
	}
	if strings.ContainsAny(params, "<=> !\"$'*") {
		return
	}
	switch final {
	case 'm':
		s.style = s.style.with(params)
	case 'h', 'l':
		if ns[0] == 4 {
			s.insert = final == 'h'
		}
	case 'r':
		top, bottom := number(ns, 0, 1), number(ns, 1, s.rows)
		s.margins = top > 1 || bottom < s.rows
		s.moveTo(0, 0)
	case 's':
		s.saved = position{s.y, s.x, s.wrap, s.style}
	case 'u':
		s.restore()
	case 'b':
		for range min(number(ns, 0, 1), s.rows*s.cols) {
			if s.last == 0 {
				break // nothing was printed that could be printed again
			}
			s.put(s.last)
		}
	default:
		if !s.move(final, ns) {
			s.edit(final, ns)
		}
	}
}

// move carries out movements of the cursor.
func (s *Screen) move(final byte, ns []int) bool {
	n := number(ns, 0, 1)
	switch final {
	case 'A':
		s.moveTo(s.y-n, s.x)
	case 'B', 'e':
		s.moveTo(s.y+n, s.x)
	case 'C', 'a':
		s.moveTo(s.y, s.x+n)
	case 'D':
		s.moveTo(s.y, s.x-n)
	case 'E':
		s.moveTo(s.y+n, 0)
	case 'F':
		s.moveTo(s.y-n, 0)
	case 'G', '`':
		s.moveTo(s.y, n-1)
	case 'd':
		s.moveTo(n-1, s.x)
	case 'H', 'f':
		s.moveTo(n-1, number(ns, 1, 1)-1)
	default:
		return false
	}
	return true
}

// edit carries out what erases, inserts and deletes.
func (s *Screen) edit(final byte, ns []int) {
	n := number(ns, 0, 1)
	s.touch()
	l := &s.lines[s.y]
	switch final {
	case 'J':
		s.eraseScreen(number(ns, 0, 0))
	case 'K':
		s.eraseLine(number(ns, 0, 0))
	case 'X':
		s.erase(s.x, s.x+n)
	case '@':
		s.insertCells(n)
		s.wrap = false
	case 'P':
		if s.x < len(l.cells) {
			s.split(s.x)
			l.cells = slices.Delete(l.cells, s.x, min(s.x+n, len(l.cells)))
		}
		s.wrap = false
	case 'L':
		for range min(n, s.rows) {
			copy(s.lines[s.y+1:], s.lines[s.y:s.rows-1])
			s.lines[s.y] = line{}
		}
	case 'M':
		for range min(n, s.rows) {
			copy(s.lines[s.y:], s.lines[s.y+1:])
			s.lines[s.rows-1] = line{}
		}
	case 'S':
		for range min(n, s.rows) {
			y := s.y
			s.y = s.rows - 1
			s.down()
			s.y = y
		}
	}
}

func (s *Screen) insertCells(n int) {
	l := &s.lines[s.y]
	if s.x < len(l.cells) {
		s.split(s.x)
		l.cells = slices.Insert(l.cells, s.x, make([]cell, min(n, s.cols))...)
		l.cut(s.cols)
	}
}

// erase blanks columns of the cursor's row.
func (s *Screen) erase(from, to int) {
	l := &s.lines[s.y]
	s.split(from)
	s.split(to)
	for i := from; i < min(to, len(l.cells)); i++ {
		l.cells[i] = cell{}
	}
	s.wrap = false
}

func (s *Screen) eraseLine(how int) {
	switch how {
	case 0:
		s.erase(s.x, s.cols)
		s.lines[s.y].wrapped = false
	case 1:
		s.erase(0, s.x+1)
	case 2:
		s.erase(0, s.cols)
		s.lines[s.y].wrapped = false
	}
}

func (s *Screen) eraseScreen(how int) {
	from, to := 0, s.rows
	switch how {
	case 0:
		s.eraseLine(0)
		from = s.y + 1
	case 1:
		s.eraseLine(1)
		to = s.y
	case 3:
		return // what was scrolled off
	}
	for i := from; i < to; i++ {
		s.lines[i] = line{}
	}
	if how == 2 && !s.editing {
		s.top = s.y
	}
}

// setMode sets a private mode.
func (s *Screen) setMode(n int, on bool) {
	if n == 47 || n == 1047 || n == modeAlternate {
		n = modeAlternate
		s.setFullScreen(on)
	}
	if n == modePaste {
		s.setEditing(on)
	}
	if on == (n == modeCursor || n == modeAutowrap) {
		delete(s.modes, n)
	} else {
		s.modes[n] = true
	}
}

// setFullScreen changes to the other grid, or back.
func (s *Screen) setFullScreen(on bool) {
	switch {
	case on && s.main == nil:
		kept := s.grid
		s.main = &kept
		s.grid = grid{lines: make([]line, s.rows), y: s.y, x: s.x, style: s.style}
	case !on && s.main != nil:
		s.grid, s.main = *s.main, nil
	}
}

// setEditing: line editors ask for bracketed paste while they are at work. Those in use (GNU readline, prompt_toolkit, the
// prompt of Python 3.13, JLine) do it before they show anything, and end it when the line is theirs no more.
func (s *Screen) setEditing(on bool) {
	if on && !s.editing {
		s.top = s.y
	}
	s.editing = on
	if !on && s.x == 0 && s.emptyBelow() {
		s.top = s.y
	}
}

// answer answers questions about the terminal.
func (s *Screen) answer(ns []int) {
	if s.Reply == nil {
		return
	}
	switch ns[0] {
	case 5:
		s.Reply([]byte("\x1b[0n"))
	case 6:
		s.Reply(fmt.Appendf(nil, "\x1b[%d;%dR", s.y+1, s.x+1))
	}
}
