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
				b.WriteRune(r) // the sign for no character, if it is none
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
	if len(text) < 2 {
		return len(text), false
	}
	switch c := text[1]; {
	case c == '[':
		for n = 2; n < len(text) && text[n] < 0x40; n++ {
		}
		whole := n < len(text)
		n = min(n+1, len(text))
		return n, whole && text[n-1] == 'm' && strings.Trim(text[2:n-1], "0123456789;:") == ""
	case strings.IndexByte("]PX^_", c) >= 0: // a string: to BEL, or to ESC and a backslash
		if i := strings.IndexAny(text[2:], "\a\x1b"); i >= 0 {
			n = i + 3
			if text[n-1] == 0x1b && n < len(text) && text[n] == '\\' {
				n++
			}
			return n, false
		}
		return len(text), false
	default:
		for n = 1; n < len(text) && text[n] >= 0x20 && text[n] <= 0x2f; n++ {
		}
		return min(n+1, len(text)), false
	}
}
