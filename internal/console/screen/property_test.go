package screen

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// live are the rows that a program may still write to, as text and as what draws them, and its cursor in them.
func (s *Screen) live(height int) string {
	top := s.y - height
	var rows []string
	for y := top; y < s.rows; y++ {
		b, _ := s.lines[y].draw(nil, style{})
		rows = append(rows, strings.TrimRight(string(b), " "))
	}
	for len(rows) > s.y-top+1 && strings.TrimSpace(rows[len(rows)-1]) == "" {
		rows = rows[:len(rows)-1]
	}
	return fmt.Sprintf("%q cursor %d,%d wrap %v style %v editing %v", rows, s.y-top, s.x, s.wrap, s.style, s.editing)
}

// program draws one thing that a program may write: line editors move within what they drew.
func program(t *rapid.T, alone *Screen) string {
	n := rapid.IntRange(1, 9).Draw(t, "n")
	up, down := alone.y-alone.liveTop(), max(alone.below()-1, 0) // a row where nothing stands is made by a line feed
	switch rapid.IntRange(0, 15).Draw(t, "what") {
	case 0, 1, 2, 3:
		return rapid.StringOfN(rapid.RuneFrom([]rune("ab  é世界e\u0301🙂")), 0, 30, -1).Draw(t, "text")
	case 4, 5:
		return "\r\n"
	case 6:
		return "\r"
	case 7:
		return strings.Repeat("\b", n)
	case 8:
		return string(up2(min(n, up)))
	case 9:
		if n = min(n, down); n > 0 {
			return fmt.Sprintf("\x1b[%dB", n)
		}
		return ""
	case 10:
		return fmt.Sprintf("\x1b[%d%c", n, rapid.SampledFrom([]byte("CDGPX@")).Draw(t, "letter"))
	case 11:
		return rapid.SampledFrom([]string{"\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[J"}).Draw(t, "erase")
	case 12:
		return rapid.SampledFrom([]string{"\x1b[m", "\x1b[1;31m", "\x1b[48;5;7m", "\x1b[38;2;1;2;3;4m", "\x1b[22;39m"}).Draw(t, "style")
	case 13:
		return rapid.SampledFrom([]string{"\x1b[?2004h", "\x1b[?2004l\r"}).Draw(t, "paste")
	case 14:
		return rapid.SampledFrom([]string{"\x1b[?7l", "\x1b[?7h", "\x1b[4h", "\x1b[4l"}).Draw(t, "mode")
	default:
		return "\t"
	}
}

func up2(n int) []byte { return up(nil, n) }

// Lines above change nothing of what a program draws, and appear in order above it, wherever the cursor stood at first.
func TestAbove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const rows = 120
		cols := rapid.IntRange(8, 40).Draw(t, "cols")
		alone := New(rows, cols)    // the program's own terminal, without lines above
		model := New(rows, cols)    // what the display believes
		terminal := New(rows, cols) // what a person sees
		terminal.Home()
		var said []string
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "whose") == 0 {
				var lines []string
				for range rapid.IntRange(1, 3).Draw(t, "lines") {
					lines = append(lines, fmt.Sprintf("W%d", len(said)))
					said = append(said, lines[len(lines)-1])
				}
				terminal.Write(model.Above(lines))
			} else {
				text := program(t, alone)
				for _, s := range []*Screen{alone, model, terminal} {
					s.Write([]byte(text))
				}
			}
			height := alone.y - alone.liveTop()
			want, has, shows := alone.live(height), model.live(model.y-model.liveTop()), terminal.live(height)
			if want != has || want != shows {
				t.Fatalf("the program drew\n%s\nthe model has\n%s\nthe terminal shows\n%s", want, has, shows)
			}
		}
		var seen []string
		for _, l := range terminal.Lines() {
			if i := slices.Index(said, l); i >= 0 {
				seen = append(seen, l)
			}
		}
		if !slices.Equal(seen, said) {
			t.Fatalf("said %q, seen %q on\n%s", said, seen, strings.Join(terminal.Lines(), "\n"))
		}
	})
}

// Whatever is written, the model holds together, and a reset ends in the first column without modes.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(rapid.IntRange(1, 12).Draw(t, "rows"), rapid.IntRange(1, 30).Draw(t, "cols"))
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				s.Write(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes"))
			case 1:
				n := rapid.IntRange(0, 40).Draw(t, "n")
				s.Write(fmt.Appendf(nil, "\x1b[%d;%d%c", n, n, rapid.ByteRange(0x40, 0x7e).Draw(t, "letter")))
				s.Write([]byte("text"))
			case 2:
				s.Resize(rapid.IntRange(1, 12).Draw(t, "rows"), rapid.IntRange(1, 30).Draw(t, "cols"))
			default:
				s.Above([]string{"above"})
			}
			if len(s.lines) != s.rows || s.y < 0 || s.y >= s.rows || s.x < 0 || s.x >= s.cols || s.top < 0 || s.top > s.y && s.top >= s.rows {
				t.Fatalf("%d lines of %d, cursor %d,%d of %d, top %d", len(s.lines), s.rows, s.y, s.x, s.cols, s.top)
			}
		}
		s.Write([]byte{0x18})
		s.Write(s.Reset())
		if s.x != 0 || len(s.modes) > 0 || s.FullScreen() {
			t.Fatalf("after a reset: column %d, modes %v, full screen %v", s.x, s.modes, s.FullScreen())
		}
	})
}

// A cursor that was put back above the first live row: when rows below it are cut, that row is one of those that are left.
func TestResizeBelowTheCursor(t *testing.T) {
	s := New(2, 2)
	s.Write([]byte("\x1b8")) // to the first row; what is live begins in the second
	s.Resize(1, 2)
	if s.top != 0 || s.y != 0 || len(s.lines) != 1 {
		t.Errorf("top %d, cursor in row %d of %d", s.top, s.y, len(s.lines))
	}
}
