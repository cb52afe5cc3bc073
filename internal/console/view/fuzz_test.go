package view

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"
	"time"
	"unicode"

	"muster/internal/console"
)

var labelColours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// FuzzEvents: names and messages come from engines' owners, and may hold anything: what is shown of them moves no cursor and
// begins no line that could be taken for somebody else's.
func FuzzEvents(f *testing.F) {
	f.Add("w1", "trainer", "it ended", "exit", "failed", true)
	f.Add("\x1b[2J", "\x1b]0;x\a", "a\rb\nmuster: c", "notice", "", false)
	f.Add("", "Untitled Worker", "\u009b2J\x7f", "refused", "timedout", true)
	f.Fuzz(func(t *testing.T, id, name, message, kind, status string, color bool) {
		var out bytes.Buffer
		l := NewLabeler(&out, &out, Options{Color: color, Partial: time.Hour, Session: own})
		write := func(r console.Record) {
			if err := l.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range []event{{"engine", id, name, "", ""}, {kind, id, name, message, status}} {
			b, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			write(console.Record{Engine: "w1", Stream: console.Event, Payload: b})
		}
		write(console.Record{Engine: "w1", Stream: console.Event, Payload: []byte(message)}) // of a newer version, perhaps
		if id != own {
			write(console.Record{Engine: id, Stream: console.Stdout, Payload: []byte("printed\n")})
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(labelColours.ReplaceAll(out.Bytes(), nil)) {
			for _, r := range string(bytes.TrimSuffix(line, []byte("\n"))) {
				if unicode.IsControl(r) {
					t.Fatalf("%q has the control character %U", line, r)
				}
			}
			if !bytes.HasPrefix(line, []byte("[")) && !bytes.HasPrefix(line, []byte("muster: ")) {
				t.Fatalf("%q is nobody's line", line)
			}
		}
		if id != own && !bytes.Contains(out.Bytes(), []byte("printed\n")) {
			t.Fatalf("%q lacks what was printed", out.Bytes())
		}
	})
}
