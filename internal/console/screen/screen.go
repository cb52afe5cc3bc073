// Package screen is a model of a terminal: it reads what is written to one and knows what it shows. The command line keeps
// one beside the real terminal of an interactive session, to put the lines of workers above the prompt (above.go) and to
// leave the terminal as it was; tests use one to see what a person sees.
//
// Ideas. Everything that goes to the real terminal goes through the model too, ours and the engine's, so that both stay
// the same by construction. Where the real terminal's cursor stood at first is unknown, so nothing that this package
// writes is absolute: it moves relative to the cursor, as line editors do. The live rows are those that a program
// may still write to: from where its line editor began, or its last unfinished line, downwards.
//
// It looks at nothing of ours. Sequences that a line editor or a program in the main screen does not use are read over.
package screen

import "slices"

// Screen is a model. It is not for several goroutines at once.
type Screen struct {
	// Reply, if set, answers the questions of programs, such as where the cursor is. A model beside a terminal leaves
	// that to the terminal.
	Reply func(b []byte)

	rows, cols int
	grid
	main  *grid        // while a full-screen program has the other one; else nil
	modes map[int]bool // private modes that are not as terminals have them at first
	last  rune
	parser
}

// grid is what a terminal has twice, one for full-screen programs.
type grid struct {
	lines   []line // as many as the screen has rows
	y, x    int
	wrap    bool // the last column was written: the next character begins the next row
	style   style
	saved   position
	top     int  // first live row
	editing bool // a line editor is at work: it has bracketed paste on
	margins bool // only a part of the screen scrolls
	insert  bool
}

type position struct {
	y, x  int
	wrap  bool
	style style
}

// line is a row. Cells beyond its end were never written, or erased.
type line struct {
	cells   []cell
	wrapped bool // the next row goes on with it
}

// cell is a character with what combines with it; the second half of a wide one is empty with width 0.
type cell struct {
	text  string // "": blank
	width int
	style style
}

// New returns a model of an empty screen whose cursor is in the last row, as a shell's mostly is.
func New(rows, cols int) *Screen {
	s := &Screen{modes: map[int]bool{}}
	s.rows, s.cols = max(rows, 1), max(cols, 2)
	s.lines = make([]line, s.rows)
	s.y = s.rows - 1
	s.top = s.y
	return s
}

// Home puts the cursor of an empty screen into its first row.
func (s *Screen) Home() { s.y, s.x, s.top, s.wrap = 0, 0, 0, false }

// Resize changes the size as terminals do that cut: rows go at the top, columns at the right. A terminal that wraps anew
// shows something else until the program has drawn its live rows again, which the change of size makes it do.
func (s *Screen) Resize(rows, cols int) {
	rows, cols = max(rows, 1), max(cols, 2)
	s.grid.resize(rows, cols)
	if s.main != nil {
		s.main.resize(rows, cols)
	}
	s.rows, s.cols = rows, cols
}

func (s *grid) resize(rows, cols int) {
	for len(s.lines) > rows && s.y < len(s.lines)-1 {
		s.lines = s.lines[:len(s.lines)-1] // below the cursor first
	}
	if n := len(s.lines) - rows; n > 0 {
		s.lines = slices.Clone(s.lines[n:])
		s.y -= n
		s.top = max(0, s.top-n)
	}
	if n := rows - len(s.lines); n > 0 { // what comes back at the top is unknown
		s.lines = append(make([]line, n), s.lines...)
		s.y += n
		s.top += n
	}
	for i := range s.lines {
		s.lines[i].cut(cols)
	}
	s.x, s.wrap = min(s.x, cols-1), false
	s.top = min(s.top, rows-1) // it may have been below the cursor, where rows were cut
}

// Lines are the rows' characters, without blanks at their ends.
func (s *Screen) Lines() []string {
	out := make([]string, len(s.lines))
	for i, l := range s.lines {
		out[i] = l.text()
	}
	return out
}

// Cursor is where the next character goes: row and column, from 0.
func (s *Screen) Cursor() (row, col int) { return s.y, s.x }

// FullScreen reports whether a program has the screen for itself.
func (s *Screen) FullScreen() bool { return s.main != nil || s.margins }

// put writes a character at the cursor.
func (s *Screen) put(r rune) {
	if r >= 0x80 && r < 0xa0 {
		return // a control character of the second kind: drawn anew, it would move the terminal's cursor
	}
	w := min(width(r), s.cols)
	if w == 0 {
		s.combine(r)
		return
	}
	s.last = r
	if !s.autowrap() {
		s.wrap, s.x = false, min(s.x, s.cols-w)
	}
	if s.wrap || s.x+w > s.cols {
		s.lines[s.y].wrapped = true
		s.x, s.wrap = 0, false
		s.down()
	}
	s.touch()
	l := &s.lines[s.y]
	if s.insert {
		s.insertCells(w)
	}
	l.reach(s.x + w)
	s.split(s.x)
	s.split(s.x + w)
	l.cells[s.x] = cell{string(r), w, s.style}
	for i := 1; i < w; i++ {
		l.cells[s.x+i] = cell{style: s.style}
	}
	if s.x += w; s.x >= s.cols {
		s.x, s.wrap = s.cols-1, s.autowrap()
	}
}

// combine adds a character without width to the one before the cursor.
func (s *Screen) combine(r rune) {
	at := s.x - 1
	if s.wrap {
		at = s.x
	}
	if at < 0 {
		return
	}
	s.touch()
	l := &s.lines[s.y]
	l.reach(at + 1)
	if at > 0 && l.cells[at].text == "" && l.cells[at-1].width == 2 {
		at--
	}
	switch c := &l.cells[at]; {
	case c.text == "":
		*c = cell{" " + string(r), 1, c.style}
	case len(c.text) < 64:
		c.text += string(r)
	}
}

// reach makes the row at least n cells long.
func (l *line) reach(n int) {
	for len(l.cells) < n {
		l.cells = append(l.cells, cell{})
	}
}

// cut leaves n columns at most.
func (l *line) cut(n int) {
	if len(l.cells) <= n {
		return
	}
	if l.cells = l.cells[:n]; l.cells[n-1].width == 2 {
		l.cells[n-1] = cell{}
	}
}

// split blanks a wide character that would be cut in two at column x.
func (s *Screen) split(x int) {
	c := s.lines[s.y].cells
	if x > 0 && x < len(c) && c[x].text == "" && c[x-1].width == 2 {
		c[x-1], c[x] = cell{}, cell{}
	}
}

// down moves the cursor to the next row; at the bottom the screen scrolls.
func (s *Screen) down() {
	if s.y < s.rows-1 {
		s.y++
		return
	}
	room := s.lines[0].cells[:0]
	copy(s.lines, s.lines[1:])
	s.lines[s.rows-1] = line{cells: room}
	s.top = max(0, s.top-1)
	s.saved.y = max(0, s.saved.y-1)
}

// feed is a line feed: outside of a line editor a new row begins something new.
func (s *Screen) feed() {
	s.down()
	s.wrap = false
	if !s.editing && s.emptyBelow() {
		s.top = s.y
	}
}

// emptyBelow reports whether nothing stands in the cursor's row or below.
func (s *Screen) emptyBelow() bool {
	for _, l := range s.lines[s.y:] {
		if !l.blank() {
			return false
		}
	}
	return true
}

// moveTo moves the cursor.
func (s *Screen) moveTo(y, x int) {
	s.y, s.x, s.wrap = min(max(y, 0), s.rows-1), min(max(x, 0), s.cols-1), false
}

// touch makes the cursor's row live: a program that writes above its live rows has more of them. That it only goes there says
// nothing: Python 3.13 goes up and down again before each prompt.
func (s *Screen) touch() { s.top = min(s.top, s.y) }

// blank reports whether a person sees nothing in the row.
func (l *line) blank() bool {
	for _, c := range l.cells {
		if c.text != "" && c.text != " " || c.style.bg != "" || c.style.flags != 0 {
			return false
		}
	}
	return true
}

// end is the column behind the last character.
func (l *line) end() int {
	for i := len(l.cells); i > 0; i-- {
		if c := l.cells[i-1]; c.text != "" {
			return i - 1 + c.width
		}
	}
	return 0
}

func (l *line) text() string {
	var b []byte
	for i := 0; i < len(l.cells); i++ {
		c := l.cells[i]
		switch {
		case c.text == "":
			b = append(b, ' ')
		default:
			b = append(b, c.text...)
			i += c.width - 1
		}
	}
	for len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return string(b)
}
