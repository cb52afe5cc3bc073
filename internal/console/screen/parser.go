package screen

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// parser is how far a sequence was read. Its states follow what terminals do (ECMA-48).
type parser struct {
	state  func(s *Screen, b byte) // nil: between sequences
	params []byte                  // of a control sequence, and its intermediates
	char   []byte                  // the beginning of a character in UTF-8
	quoted bool                    // an ESC came in a string
}

// maxParams bounds what is kept of a control sequence.
const maxParams = 256

// Write reads what is written to the terminal.
func (s *Screen) Write(p []byte) (int, error) {
	for _, b := range p {
		s.read(b)
	}
	return len(p), nil
}

// Between reports whether no sequence and no character is half read: only then may something else be written.
func (s *Screen) Between() bool { return s.state == nil && len(s.char) == 0 }

func (s *Screen) read(b byte) {
	switch {
	case s.state != nil:
		s.state(s, b)
	case b >= utf8.RuneSelf:
		s.readChar(b)
	case len(s.char) > 0: // it was cut short
		s.char = s.char[:0]
		s.put(utf8.RuneError)
		s.read(b)
	case b == 0x1b:
		s.state = escape
	case b < 0x20 || b == 0x7f:
		s.control(b)
	default:
		s.put(rune(b))
	}
}

func (s *Screen) readChar(b byte) {
	s.char = append(s.char, b)
	if !utf8.FullRune(s.char) {
		return
	}
	r, n := utf8.DecodeRune(s.char)
	rest := string(s.char[n:])
	s.char = s.char[:0]
	s.put(r)
	for i := range len(rest) {
		s.read(rest[i])
	}
}

func (s *Screen) control(b byte) {
	switch b {
	case '\b':
		if s.wrap {
			s.wrap = false
		}
		s.x = max(0, s.x-1)
	case '\t':
		s.x = min(s.cols-1, s.x/8*8+8)
		s.wrap = false
	case '\n', '\v', '\f':
		s.feed()
	case '\r':
		s.x, s.wrap = 0, false
	}
}

// escape reads what follows an ESC.
func escape(s *Screen, b byte) {
	s.state = nil
	switch {
	case b == '[':
		s.params, s.state = s.params[:0], csi
	case b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_':
		s.quoted, s.state = false, text
	case b == 0x1b:
		s.state = escape
	case b >= 0x20 && b <= 0x2f: // such as a character set
		s.state = intermediate
	case b < 0x20:
		s.control(b)
		s.state = escape
	default:
		s.simple(b)
	}
}

func intermediate(s *Screen, b byte) {
	if b < 0x20 || b > 0x2f {
		s.state = nil
	}
}

// text reads a string, such as a title, to its end.
func text(s *Screen, b byte) {
	switch {
	case s.quoted && b == '\\', b == 0x07, b == 0x18, b == 0x1a:
		s.state = nil
	case s.quoted && b != 0x1b: // another sequence begins
		s.state = escape
		s.read(b)
	default:
		s.quoted = b == 0x1b
	}
}

// csi reads a control sequence.
func csi(s *Screen, b byte) {
	switch {
	case b == 0x1b:
		s.state = escape
	case b == 0x18 || b == 0x1a:
		s.state = nil
	case b < 0x20:
		s.control(b)
	case b < 0x40:
		if len(s.params) < maxParams {
			s.params = append(s.params, b)
		}
	default:
		s.state = nil
		s.sequence(b, string(s.params))
	}
}

// simple carries out ESC and one letter.
func (s *Screen) simple(b byte) {
	switch b {
	case '7':
		s.saved = position{s.y, s.x, s.wrap, s.style}
	case '8':
		s.restore()
	case 'D':
		s.feed()
	case 'E':
		s.x = 0
		s.feed()
	case 'M':
		s.moveTo(s.y-1, s.x)
	case 'c':
		reply := s.Reply
		*s = *New(s.rows, s.cols)
		s.Reply = reply
		s.Home()
	}
}

func (s *Screen) restore() {
	s.moveTo(s.saved.y, s.saved.x)
	s.wrap, s.style = s.saved.wrap, s.saved.style
}

// numbers of a control sequence; absent ones are -1.
func numbers(params string) []int {
	fields := strings.Split(params, ";")
	out := make([]int, len(fields))
	for i, f := range fields {
		n, err := strconv.Atoi(f)
		if err != nil || n < 0 {
			n = -1
		}
		out[i] = min(n, 1<<15)
	}
	return out
}

// number is the i-th, or otherwise if it is absent or less than least.
func number(ns []int, i, otherwise int) int {
	if i < len(ns) && ns[i] > 0 {
		return ns[i]
	}
	return otherwise
}
