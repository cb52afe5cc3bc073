package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"muster/internal/console"

	"pgregory.net/rapid"
)

// inserted stands for the newlines that the Labeler inserts, so that they can be told from the engines' own.
const inserted = "\x01"

// What is left of each engine's lines without labels and inserted newlines is what it printed, whatever came when.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		color, shared := rapid.Bool().Draw(t, "color"), rapid.Bool().Draw(t, "shared")
		var stdout, stderr bytes.Buffer
		l := NewLabeler(&stdout, &stderr, Options{Color: color, Partial: time.Hour, Session: own})
		l.err.last = &cursor{}
		if shared {
			l.err.w, l.err.last = &stdout, l.out.last
		}
		l.newline = inserted
		ids := []string{own, "w1", "w2", "w3"}
		printed := [2]map[string]string{{}, {}}
		for range rapid.IntRange(0, 40).Draw(t, "records") {
			n := rapid.IntRange(0, 4).Draw(t, "engine")
			if n == 4 { // the moment is over
				l.mu.Lock()
				if len(l.waiting) > 0 {
					l.release(l.waiting[0], nil)
				}
				l.mu.Unlock()
				continue
			}
			s := rapid.IntRange(0, 1).Draw(t, "stream")
			if shared { // one stream for each engine: in one file its two could not be told apart
				s = n % 2
			}
			text := rapid.StringMatching(`[ab\r\n]{0,12}`).Draw(t, "text")
			if rapid.IntRange(0, 15).Draw(t, "large") == 0 {
				text += strings.Repeat("x", maxHeld-3) + text
			}
			shown := text
			if ln := l.engine(ids[n]).lines[s]; ln.cut && len(ln.held) == 0 && strings.HasPrefix(text, "\n") {
				shown = text[1:] // the newline that was inserted stands for it
			}
			printed[s][ids[n]] += shown
			r := console.Record{Engine: ids[n], Stream: console.Stdout + console.Stream(s), Payload: []byte(text)}
			if err := l.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		got := [2]map[string]string{stripped(t, l, stdout.String()), stripped(t, l, stderr.String())}
		for _, id := range ids {
			for s := range 2 {
				if shared {
					got[1][id] = got[0][id]
				}
				if shared && printed[s][id] == "" {
					continue
				}
				if got[s][id] != printed[s][id] {
					t.Fatalf("%s printed %.300q, shown is %.300q", id, printed[s][id], got[s][id])
				}
			}
		}
	})
}

// stripped takes a whole output apart: what stands behind an engine's label up to the end of the line is the engine's,
// what has no label the session's.
func stripped(t *rapid.T, l *Labeler, shown string) map[string]string {
	parts, of, start := map[string][]byte{}, own, true
	for len(shown) > 0 {
		if id, label := labelAt(l, shown); id != "" {
			if !start && (id != of || !l.opts.Color) {
				t.Fatalf("the label of %s is behind a half line of %s", id, of)
			}
			of, start, shown = id, false, shown[len(label):]
			continue
		}
		c := shown[0]
		shown = shown[1:]
		if c != inserted[0] {
			parts[of] = append(parts[of], c)
		}
		start = c == inserted[0] || c == '\n'
		if start {
			of = own
		}
	}
	texts := map[string]string{}
	for id, b := range parts {
		texts[id] = string(b)
	}
	return texts
}

func labelAt(l *Labeler, s string) (id, label string) {
	if s[0] != '[' && s[0] != '\x1b' {
		return "", ""
	}
	for id, e := range l.engines {
		if e.label != "" && strings.HasPrefix(s, e.label) {
			return id, e.label
		}
	}
	return "", ""
}

func ExampleLabeler() {
	var screen bytes.Buffer
	l := NewLabeler(&screen, &screen, Options{Session: "session"})
	for _, r := range []console.Record{
		{Engine: "session", Stream: console.Stdout, Payload: []byte("launched\n")},
		{Engine: "w1", Stream: console.Event, Payload: []byte(`{"type":"engine","name":"trainer"}`)},
		{Engine: "w1", Stream: console.Stdout, Payload: []byte("epoch 1\nepo")},
		{Engine: "w2", Stream: console.Stdout, Payload: []byte("hello\n")},
		{Engine: "w1", Stream: console.Stdout, Payload: []byte("ch 2\n")},
	} {
		l.Write(r)
	}
	l.Close()
	fmt.Print(screen.String())
	// Output:
	// launched
	// [trainer] epoch 1
	// [w2] hello
	// [trainer] epoch 2
}
