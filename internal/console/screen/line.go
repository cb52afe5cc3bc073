package screen

import (
	"strings"
	"unicode/utf8"
)

// Line makes a line of somebody's output fit to be printed among others: colours stay, everything that would move the cursor
// or change the terminal goes. Of a line that was written over (\r) the last state is left, as on a terminal.
func Line(text string) string {
	text = strings.TrimRight(text, "\r")
	if i := strings.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	var b strings.Builder
	styled := false
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == 0x1b:
			n, colour := skip(text[i:])
			if colour {
				b.WriteString(text[i : i+n])
				styled = true
			}
			i += n
		case c == '\t' || c >= 0x20 && c < 0x7f:
			b.WriteByte(c)
			i++
		case c < 0x80:
			i++
		default:
			r, n := utf8.DecodeRuneInString(text[i:])
			if r >= 0xa0 {
				b.WriteString(text[i : i+n])
			} // else a control character of the second kind
			i += n
		}
	}
	if styled {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// skip is the length of the sequence that text begins with, and whether it only changes colours.
func skip(text string) (n int, colour bool) {
	var s Screen // only its parser is used
	s.alternate, s.modes = true, map[int]bool{}
	s.rows, s.cols = 1, 2
	for n < len(text) {
		s.read(text[n])
		n++
		if s.Between() {
			break
		}
	}
	return n, s.Between() && strings.HasPrefix(text, "\x1b[") && text[n-1] == 'm' && !strings.ContainsAny(text[:n], "<=>?")
}
