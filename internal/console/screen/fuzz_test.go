package screen

import (
	"regexp"
	"testing"
	"unicode"
	"unicode/utf8"
)

var colours = regexp.MustCompile("\x1b\\[[0-9;:]*m")

// plain fails if there is anything in text that is neither printed nor a colour.
func plain(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Fatalf("%q is not UTF-8", text)
	}
	for _, r := range colours.ReplaceAllString(text, "") {
		if unicode.IsControl(r) && r != '\t' {
			t.Fatalf("%q has the control character %U", text, r)
		}
	}
}

var escapes = []string{
	"", "text", "\x1b[31mred\x1b[0m", "\x1b]0;title\a", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x1bP1$r\x1b\\", "\x1b[2J\x1b[H", "\x1bc", "\x1b[6n",
	"\x1b[?1049h\x1b[3;2r", "a\rb", "\x1b[38;5;1;48;2;1;2;3mx", "\x1b[31", "\x1b", "\x1b\x1b[2J", "\x1b[\x1b[2J", "\x1b[1\r;2H", "\u009b2J", "\xc2\x9b2J", "\x9b2J",
	"\x1b[99999999999999999999C", "\x1b[;m\x1b[::m", "\x1b_G\x1b", "世\x1b[D界e\u0301", "\x1b(0lqk", "\x1b[?25l\x1b[>4;2m", "\x1b[4:3mwavy", "\x07\x08\x0b\x0c\x7f",
}

// FuzzLine: nothing but text and colours comes out of a line, and a second time nothing changes but the end of the colours.
func FuzzLine(f *testing.F) {
	for _, e := range escapes {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := Line(text)
		plain(t, once)
		if again := Line(once); again != once && again != once+"\x1b[0m" {
			t.Fatalf("%q became %q, and then %q", text, once, again)
		}
	})
}

// FuzzScreen: whatever a program writes, in whatever pieces, the model holds together, what it draws of a row is text and
// colours, and the pieces make no difference.
func FuzzScreen(f *testing.F) {
	for i, e := range escapes {
		f.Add([]byte(e), uint8(i), uint8(10+i), uint8(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, cut, cols, rows uint8) {
		r, c := 1+int(rows%12), 1+int(cols%40)
		whole, pieces := New(r, c), New(r, c)
		whole.Write(text)
		at := min(int(cut), len(text))
		pieces.Write(text[:at])
		pieces.Write(text[at:])
		for _, s := range []*Screen{whole, pieces} {
			if len(s.lines) != s.rows || s.y < 0 || s.y >= s.rows || s.x < 0 || s.x >= s.cols {
				t.Fatalf("%d lines of %d, cursor %d,%d of %d", len(s.lines), s.rows, s.y, s.x, s.cols)
			}
		}
		if whole.x != pieces.x || whole.y != pieces.y || whole.style != pieces.style {
			t.Fatalf("cut at %d the cursor is at %d,%d, else at %d,%d", at, pieces.y, pieces.x, whole.y, whole.x)
		}
		for i := range whole.lines {
			drawn, _ := whole.lines[i].draw(nil, style{})
			again, _ := pieces.lines[i].draw(nil, style{})
			plain(t, string(drawn))
			if string(drawn) != string(again) {
				t.Fatalf("cut at %d row %d is %q, else %q", at, i, again, drawn)
			}
		}
	})
}
