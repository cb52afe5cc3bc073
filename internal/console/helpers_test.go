package console

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedWriter); dir != "" {
		writeUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// deadline is how long anything in these tests may take before it counts as stuck.
const deadline = 30 * time.Second

func at(n int64) time.Time { return time.Unix(1_700_000_000, n).UTC() }

func openWriter(t testing.TB, dir string) *Writer {
	t.Helper()
	w, err := OpenWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func engineLog(t testing.TB, w *Writer, id string) *EngineLog {
	t.Helper()
	l, err := w.Log(id)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustAppend(t testing.TB, l *EngineLog, stream Stream, when time.Time, payload string) {
	t.Helper()
	if err := l.Append(stream, 0, when, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func session(t testing.TB, dir string, from Position) *Cursor {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Session(from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func engine(t testing.TB, dir, id string, from Position) *Cursor {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Engine(id, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// placed is a record that may be kept, and the position after it.
type placed struct {
	Record
	pos Position
}

func (p placed) String() string {
	return fmt.Sprintf("%s %s %d %d %q", p.Engine, p.Stream, p.Flags, p.Time.UnixNano(), p.Payload)
}

// read reads up to the end or to an error.
func read(c *Cursor) ([]placed, error) {
	var all []placed
	for {
		r, pos, err := c.Next(nil)
		if err != nil {
			return all, err
		}
		r.Payload = bytes.Clone(r.Payload)
		all = append(all, placed{r, pos})
	}
}

func readAll(t testing.TB, c *Cursor) []placed {
	t.Helper()
	all, err := read(c)
	if err != io.EOF {
		t.Fatalf("after %d records: %v", len(all), err)
	}
	return all
}

func payloads(all []placed) string {
	var b []byte
	for _, p := range all {
		b = append(b, p.Payload...)
	}
	return string(b)
}

func same(t testing.TB, got, want []placed) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].String() != want[i].String() || got[i].pos != want[i].pos {
			t.Fatalf("record %d:\n got %.200s at %s\nwant %.200s at %s", i, got[i], got[i].pos, want[i], want[i].pos)
		}
	}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func truncate(t testing.TB, size int64, path ...string) {
	t.Helper()
	if err := os.Truncate(filepath.Join(path...), size); err != nil {
		t.Fatal(err)
	}
}

// orderSize is the length of the order file: it grows with every record.
func orderSize(w *Writer) int64 {
	w.order.mu.Lock()
	defer w.order.mu.Unlock()
	return w.order.end
}
