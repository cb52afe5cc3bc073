package console

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// followed is what Follow gives of a console that nobody writes to any more, a record a line.
func followed(t *testing.T, c *Cursor) string {
	t.Helper()
	done := make(chan struct{})
	close(done)
	var all strings.Builder
	err := Follow(t.Context(), c, nil, done, func(r Record, _ Position) error {
		if message, is := Damage(r); is {
			fmt.Fprintf(&all, "! %s\n", message)
			return nil
		}
		fmt.Fprintf(&all, "%s %s\n", r.Engine, r.Payload)
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// What cannot be read any more is told where it is, once, and all else is read.
func TestWhatIsLostIsTold(t *testing.T) {
	const size = HeaderSize + 2 // of each record
	whole := "a a0\nb b0\na a1\nb b1\na a2\nb b2\na a3\nb b3\n"
	for _, test := range []struct {
		name                string
		do                  func(t *testing.T, dir string)
		session, log, other string // other: b's
	}{
		{"nothing", func(*testing.T, string) {}, whole, "a a0\na a1\na a2\na a3\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"four bytes of a log", func(t *testing.T, dir string) { scribble(t, 1*size+4, dir, "a.log") },
			"a a0\nb b0\n! console file DIR/a.log is damaged at byte 26: the record's checksum is wrong\nb b1\na a2\nb b2\na a3\nb b3\n",
			"a a0\n! console file DIR/a.log is damaged at byte 26: this is no record header; " + readSession + "\n",
			"b b0\nb b1\nb b2\nb b3\n"},
		{"a log cut short", func(t *testing.T, dir string) { truncate(t, 1*size+3, dir, "a.log") },
			"a a0\nb b0\n! the log of a ends at byte 29, 75 bytes are missing: DIR/a.log\nb b1\nb b2\nb b3\n",
			"a a0\n! the log of a ends at byte 29, 75 bytes are missing: DIR/a.log\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"the last record cut", func(t *testing.T, dir string) { truncate(t, 4*size-1, dir, "b.log") },
			strings.TrimSuffix(whole, "b b3\n") + "! the log of b ends at byte 103, 1 bytes are missing: DIR/b.log\n",
			"a a0\na a1\na a2\na a3\n", "b b0\nb b1\nb b2\n! the log of b ends at byte 103, 1 bytes are missing: DIR/b.log\n"},
		{"the last record's payload", func(t *testing.T, dir string) { scribble(t, 4*size-2, dir, "a.log") },
			strings.Replace(whole, "a a3\n", "! console file DIR/a.log is damaged at byte 78: the record's checksum is wrong\n", 1),
			"a a0\na a1\na a2\n! console file DIR/a.log is damaged at byte 78: the record is not whole; " + readSession + "\n",
			"b b0\nb b1\nb b2\nb b3\n"},
		{"an empty log", func(t *testing.T, dir string) { truncate(t, 0, dir, "a.log") },
			"! the output of a is not there any more: DIR/a.log\nb b0\nb b1\nb b2\nb b3\n",
			"! the output of a is not there any more: DIR/a.log\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"no log", func(t *testing.T, dir string) { remove(t, dir, "a.log") },
			"! the output of a is not there any more: DIR/a.log\nb b0\nb b1\nb b2\nb b3\n",
			"! the output of a is not there any more: DIR/a.log\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"an entry of the order", func(t *testing.T, dir string) { scribble(t, 2*entrySize, dir, orderName) },
			"a a0\nb b0\n! console file DIR/order is damaged at byte 64: this is no order entry; " + readEngines + "\n" +
				"b b1\na a2\nb b2\na a3\nb b3\n", "a a0\na a1\na a2\na a3\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"the end of the order", func(t *testing.T, dir string) { truncate(t, 4*entrySize+5, dir, orderName) },
			"a a0\nb b0\na a1\nb b1\n! console file DIR/order is damaged at byte 128: it ends before the last records of a; " + readEngines + "\n",
			"a a0\na a1\na a2\na a3\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"what a killed writer had not put in order", func(t *testing.T, dir string) { truncate(t, 6*entrySize, dir, orderName) },
			strings.TrimSuffix(whole, "a a3\nb b3\n"), "a a0\na a1\na a2\na a3\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"an empty order", func(t *testing.T, dir string) { truncate(t, 0, dir, orderName) },
			"! the order of the session's output is not there any more: DIR/order; " + readEngines + "\n",
			"a a0\na a1\na a2\na a3\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"no order", func(t *testing.T, dir string) { remove(t, dir, orderName) },
			"! the order of the session's output is not there any more: DIR/order; " + readEngines + "\n",
			"a a0\na a1\na a2\na a3\n", "b b0\nb b1\nb b2\nb b3\n"},
		{"no console", func(t *testing.T, dir string) { remove(t, dir) },
			"! the session's output is not there any more: DIR\n",
			"! the output of a is not there any more: DIR/a.log\n", "! the output of b is not there any more: DIR/b.log\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "console")
			w := openWriter(t, dir)
			for i := range 4 {
				for _, id := range []string{"a", "b"} {
					mustAppend(t, engineLog(t, w, id), Stdout, at(int64(i)), fmt.Sprint(id, i))
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			test.do(t, dir)
			for _, read := range []struct {
				what string
				c    *Cursor
				want string
			}{{"session", session(t, dir, ""), test.session}, {"a", engine(t, dir, "a", ""), test.log}, {"b", engine(t, dir, "b", ""), test.other}} {
				read.c.Began()
				if got := strings.ReplaceAll(followed(t, read.c), dir, "DIR"); got != read.want {
					t.Errorf("%s:\n%s\nwanted\n%s", read.what, got, read.want)
				}
			}
		})
	}
}

// An engine that printed nothing is no damage, nor is what a killed writer has left of a record.
func TestNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	mustAppend(t, engineLog(t, w, "a"), Stdout, at(1), "a0")
	f, err := os.OpenFile(enginePath(dir, "a"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]*Cursor{"session": session(t, dir, ""), "a": engine(t, dir, "a", "")} {
		if got := followed(t, c); got != "a a0\n" {
			t.Errorf("%s: %s", what, got)
		}
	}
	if got := followed(t, engine(t, dir, "silent", "")); got != "" {
		t.Error(got)
	}
}

func scribble(t *testing.T, at int64, path ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(path...), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 2)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 0xa5, b[1] ^ 0x5a}, at); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path ...string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}
