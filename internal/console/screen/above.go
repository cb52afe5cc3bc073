package screen

import (
	"slices"
	"strconv"
	"strings"
)

// Above puts lines above the live rows of the model and returns what does so on the terminal: it goes up to their beginning,
// erases them, prints, draws them again and puts the cursor back. Each line must be printable as it is (Line makes it so);
// the model must be Between sequences and not FullScreen.
func (s *Screen) Above(lines []string) []byte {
	if len(lines) == 0 {
		return nil
	}
	before, after := s.around()
	b := appendLines(before, lines)
	last := lines[max(0, len(lines)-s.rows):] // those before are scrolled off, and the model need not read them
	top := s.liveTop()
	live := s.y - top
	wrapped := make([]bool, s.rows-top)
	for i := range wrapped {
		wrapped[i] = s.lines[top+i].wrapped
	}
	s.Write(appendLines(before, last))
	s.Write(after)
	s.top = max(0, s.y-live)
	for i := range min(len(wrapped), s.rows-s.top) { // rows that belong together still do, however they were drawn
		s.lines[s.top+i].wrapped = wrapped[i]
	}
	return append(b, after...)
}

func appendLines(b []byte, lines []string) []byte {
	for _, l := range lines {
		b = append(append(b, l...), "\r\n"...)
	}
	return b
}

// around is what is written before lines above the live rows, and after them.
func (s *Screen) around() (before, after []byte) {
	top := s.liveTop()
	b := up(nil, s.y-top)
	b = append(b, '\r')
	b = append(b, style{}.sequence()...)
	if s.insert {
		b = append(b, "\x1b[4l"...)
	}
	b = append(b, "\x1b[J"...)
	if !s.autowrap() {
		b = append(b, "\x1b[?7h"...)
	}
	return b[:len(b):len(b)], s.redraw(nil, top)
}

func (s *Screen) autowrap() bool { return !s.modes[modeAutowrap] }

// liveTop is the first live row; a row that wraps belongs to the next one.
func (s *Screen) liveTop() int {
	top := min(s.top, s.y)
	for top > 0 && s.lines[top-1].wrapped {
		top--
	}
	return top
}

// redraw draws the rows from top on and puts the cursor and its style back.
func (s *Screen) redraw(b []byte, top int) []byte {
	bottom := s.y
	for i := s.rows - 1; i > bottom; i-- {
		if !s.lines[i].blank() {
			bottom = i
		}
	}
	now := style{}
	for y := top; y <= bottom; y++ {
		l := &s.lines[y]
		b, now = l.draw(b, now)
		if y == bottom {
			break
		}
		// The end of a full row makes the terminal go on in the next one by itself, and know that the two are one line.
		if next := s.lines[y+1].cells; l.wrapped && len(next) > 0 && next[0].text != "" && l.end()+next[0].width > s.cols {
			continue
		}
		b = append(b, "\r\n"...)
	}
	b = up(b, bottom-s.y)
	b = append(b, '\r')
	if s.x > 0 && !s.wrap {
		b = append(append(b, "\x1b["...), strconv.Itoa(s.x)+"C"...)
	}
	if s.wrap { // the last character again, so that the next one goes into the next row
		b, now = s.lastCell(b, now)
	}
	if now != s.style {
		b = append(b, s.style.sequence()...)
	}
	if s.insert {
		b = append(b, "\x1b[4h"...)
	}
	if !s.autowrap() {
		b = append(b, "\x1b[?7l"...)
	}
	return b
}

// lastCell moves to the last character of the cursor's row and writes it.
func (s *Screen) lastCell(b []byte, now style) ([]byte, style) {
	cells := s.lines[s.y].cells
	at := len(cells) - 1
	for at > 0 && cells[at].text == "" {
		at--
	}
	if at > 0 {
		b = append(append(b, "\x1b["...), strconv.Itoa(at)+"C"...)
	}
	part := line{cells: cells[max(at, 0):]}
	return part.draw(b, now)
}

// draw writes a row's characters, whose style is now before and after.
func (l *line) draw(b []byte, now style) ([]byte, style) {
	end := l.end()
	for i := 0; i < end; i++ {
		c := l.cells[i]
		if c.style != now {
			now = c.style
			b = append(b, now.sequence()...)
		}
		if c.text == "" {
			b = append(b, ' ')
			continue
		}
		b = append(b, c.text...)
		i += c.width - 1
	}
	if now.bg != "" || now.flags != 0 { // else the next row would begin in this colour
		now = style{}
		b = append(b, now.sequence()...)
	}
	return b, now
}

func up(b []byte, n int) []byte {
	if n <= 0 {
		return b
	}
	return append(b, "\x1b["+strconv.Itoa(n)+"A"...)
}

// Reset returns what gives the terminal back as it was: without the modes and the style that a program left behind, and with
// the cursor at the beginning of a row.
func (s *Screen) Reset() []byte {
	var b []byte
	for _, n := range slices.Sorted(func(yield func(int) bool) {
		for n := range s.modes {
			if !yield(n) {
				return
			}
		}
	}) {
		letter := "l"
		if n == modeCursor || n == modeAutowrap {
			letter = "h"
		}
		b = append(b, "\x1b[?"+strconv.Itoa(n)+letter...)
	}
	if s.margins {
		b = append(b, "\x1b7\x1b[r\x1b8"...)
	}
	if s.insert {
		b = append(b, "\x1b[4l"...)
	}
	if s.style != (style{}) {
		b = append(b, style{}.sequence()...)
	}
	if down := s.below(); down > 0 {
		b = append(b, strings.Repeat("\r\n", down)...)
	} else if s.x > 0 || s.wrap {
		b = append(b, "\r\n"...)
	}
	return b
}

// below is how many rows the cursor must go down to be below everything that is shown.
func (s *Screen) below() int {
	for i := s.rows - 1; i > s.y; i-- {
		if !s.lines[i].blank() {
			return i - s.y + 1
		}
	}
	return 0
}
