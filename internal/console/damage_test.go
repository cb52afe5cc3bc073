package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// damage does what b says to a file: where, how, how much; and returns how many bytes at its beginning are as they were.
func damage(t *testing.T, path string, b []byte) int {
	t.Helper()
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := (int(b[0])<<8 | int(b[1])) % (len(was) + 1)
	n := min(int(b[3]), len(was)-at)
	is := bytes.Clone(was)
	switch b[2] % 5 {
	case 0: // torn
		is = is[:at]
	case 1: // a block that never reached the disk
		clear(is[at : at+n])
	case 2: // other bytes
		for i := range n {
			is[at+i] ^= b[4]
		}
	case 3: // something between
		is = slices.Insert(is, at, bytes.Repeat(b[4:5], int(b[3]))...)
	case 4: // something missing
		is = slices.Delete(is, at, at+n)
	}
	if err := os.WriteFile(path, is, 0o600); err != nil {
		t.Fatal(err)
	}
	same := 0
	for same < min(len(was), len(is)) && was[same] == is[same] {
		same++
	}
	return same
}

// FuzzDamage damages files of a console: no record that lies whole before the damage of its log is lost, and none is made up,
// neither by readers nor by the writer's repair; after which the console can be written to and read again.
func FuzzDamage(f *testing.F) {
	f.Add([]byte{0, 100, 0, 0, 0}, uint8(0))
	f.Add([]byte{0, 60, 1, 40, 0}, uint8(1))
	f.Add([]byte{0, 4, 2, 4, 0xff}, uint8(0))
	f.Add([]byte{0, 32, 4, 32, 0}, uint8(2))
	f.Add([]byte{0, 32, 3, 32, 7, 0, 70, 2, 1, 1}, uint8(6))
	f.Fuzz(func(t *testing.T, script []byte, which uint8) {
		dir := t.TempDir()
		files := []string{"a.log", "b.log", "order"}
		w := openWriter(t, dir)
		for i := range 12 {
			id := string("aab"[i%3])
			mustAppend(t, engineLog(t, w, id), Stdout, at(int64(i)), id+strings.Repeat("x", i*i)+"\n")
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		want := map[string][]placed{"a": readAll(t, engine(t, dir, "a", "")), "b": readAll(t, engine(t, dir, "b", ""))}
		whole := map[string]int{}
		for _, name := range files {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			whole[name] = int(info.Size())
		}
		for ; len(script) >= 5; script = script[5:] {
			name := files[int(which)%len(files)]
			whole[name] = min(whole[name], damage(t, filepath.Join(dir, name), script))
			which /= 3
		}
		compare := func(when string) {
			t.Helper()
			for _, id := range []string{"a", "b"} {
				before, size := 0, 0
				for _, p := range want[id] {
					if size += HeaderSize + len(p.Payload); size > whole[id+".log"] {
						break
					}
					before++
				}
				got, err := read(engine(t, dir, id, ""))
				var wrong *DamagedError
				if err != io.EOF && !errors.As(err, &wrong) {
					t.Fatalf("%s: %v", when, err)
				}
				if len(got) < before {
					t.Fatalf("%s: %d records of %s, %d lie before the damage", when, len(got), id, before)
				}
				same(t, got[:before], want[id][:before])
				real(t, got, want)
			}
			inOrder, _ := read(session(t, dir, ""))
			real(t, inOrder, want)
			r, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			var back []placed
			err = r.Backward(func(string) bool { return true }, func(r Record) bool {
				r.Payload = bytes.Clone(r.Payload)
				back = append(back, placed{Record: r})
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			real(t, back, want)
		}
		compare("damaged")
		w, err := OpenWriter(dir)
		if err != nil {
			t.Fatal(err) // damage of what was written is no reason to refuse; it stays visible to readers
		}
		t.Cleanup(func() { w.Close() })
		compare("repaired")
		mustAppend(t, engineLog(t, w, "new"), Stderr, at(99), "after")
		if got := readAll(t, engine(t, dir, "new", "")); payloads(got) != "after" {
			t.Fatalf("written after the repair, read: %q", payloads(got))
		}
	})
}

// real fails for a record that was never written.
func real(t *testing.T, got []placed, written map[string][]placed) {
	t.Helper()
	for _, g := range got {
		if !slices.ContainsFunc(written[g.Engine], func(p placed) bool { return p.String() == g.String() }) {
			t.Fatalf("%s was never written", g)
		}
	}
}

// FuzzPosition: what is taken as a position says so again, and positions of one place are in their order as text.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "0", "s000000000020", "e00000000001f-a", "s00000000001f", "sfffffffffff0", "e000000000000-", "x000000000000", "S000000000020"} {
		f.Add(s, int64(32))
	}
	f.Fuzz(func(t *testing.T, text string, off int64) {
		switch kind, n, id, err := Position(text).split(); {
		case err != nil && (!errors.Is(err, ErrPosition) || kind != 0 || n != 0 || id != ""):
			t.Fatalf("%q: %c %d %q, %v", text, kind, n, id, err)
		case kind == 's' && sessionPosition(n) != Position(text), kind == 'e' && enginePosition(id, n) != Position(text):
			t.Fatalf("%q is read as %c %d %q", text, kind, n, id)
		case err == nil && kind == 0 && text != "" && text != "0":
			t.Fatalf("%q is taken for the beginning", text)
		}
		if off < 0 || off >= maxOffset-entrySize {
			return
		}
		off -= off % entrySize
		p := sessionPosition(off)
		if n, err := p.inSession(); err != nil || n != off || p >= sessionPosition(off+entrySize) {
			t.Fatalf("%d is %q: %d, %v", off, p, n, err)
		}
		if _, err := p.inEngine("a"); !errors.Is(err, ErrPosition) {
			t.Fatalf("%q in an engine's log: %v", p, err)
		}
	})
}
