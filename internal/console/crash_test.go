package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sample writes three engines' records in turns, with times that grow.
func sample(t *testing.T) (dir string, want []placed) {
	dir = t.TempDir()
	w := openWriter(t, dir)
	for i := range 12 {
		id := []string{"a", "b", "c"}[i%3]
		mustAppend(t, engineLog(t, w, id), Stdout, at(int64(i)), fmt.Sprintf("%s prints %d\n", id, i))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, readAll(t, session(t, dir, ""))
}

func fileSize(t *testing.T, path ...string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// goesOn repairs dir, checks that the session now holds want and every engine its part, and that appending works.
func goesOn(t *testing.T, dir string, want []placed) {
	t.Helper()
	w, err := OpenWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, id := range []string{"a", "b", "c"} {
		mustAppend(t, engineLog(t, w, id), Stderr, at(99), "after")
	}
	all := readAll(t, session(t, dir, ""))
	if len(all) != len(want)+3 || payloads(all[len(want):]) != "afterafterafter" {
		t.Fatalf("%d records after the repair, want %d and three more", len(all), len(want))
	}
	perEngine := map[string]string{}
	for i, p := range all {
		if i < len(want) && p.String() != want[i].String() {
			t.Fatalf("record %d after the repair: %s, want %s", i, p, want[i])
		}
		perEngine[p.Engine] += string(p.Payload)
	}
	for _, id := range []string{"a", "b", "c"} {
		if got := payloads(readAll(t, engine(t, dir, id, ""))); got != perEngine[id] {
			t.Fatalf("engine %s: %q, in the session %q", id, got, perEngine[id])
		}
	}
}

// The writer dies between two writes, or within one: the last entries are missing or torn, the records are there.
func TestCrashAtEveryByteOfTheOrder(t *testing.T) {
	dir, want := sample(t)
	full := fileSize(t, dir, "order")
	for cut := full - 4*entrySize; cut <= full; cut++ {
		torn := copyDir(t, dir)
		truncate(t, cut, torn, "order")
		same(t, readAll(t, session(t, torn, "")), want[:cut/entrySize])
		goesOn(t, torn, want)
	}
}

// The writer dies while it writes a record: it has no entry yet.
func TestCrashAtEveryByteOfARecord(t *testing.T) {
	dir, want := sample(t)
	full := fileSize(t, dir, "c.log")
	last := want[len(want)-1]
	for cut := full - HeaderSize - int64(len(last.Payload)); cut < full; cut++ {
		torn := copyDir(t, dir)
		truncate(t, fileSize(t, dir, "order")-entrySize, torn, "order")
		truncate(t, cut, torn, "c.log")
		same(t, readAll(t, session(t, torn, "")), want[:11])
		if got := len(readAll(t, engine(t, torn, "c", ""))); got != 3 {
			t.Fatalf("cut at %d: %d records", cut, got)
		}
		goesOn(t, torn, want[:11])
	}
}

// A loss of power may keep the order and lose records: at every byte of the last two, cut off or turned to zeros.
func TestPowerLossAtEveryByte(t *testing.T) {
	dir, want := sample(t)
	full := fileSize(t, dir, "b.log")
	size := int64(HeaderSize + len(want[10].Payload))
	for cut := full - 2*size + 2; cut < full; cut++ { // b printed records 1, 4, 7 and 10
		kept := slices.DeleteFunc(slices.Clone(want), func(p placed) bool {
			return p.Engine == "b" && (p.Time == at(10) || p.Time == at(7) && cut < full-size)
		})
		for _, zeros := range []bool{false, true} {
			torn := copyDir(t, dir)
			truncate(t, cut, torn, "b.log")
			if zeros {
				truncate(t, full, torn, "b.log")
			}
			if all, err := read(session(t, torn, "")); err == nil || len(all) > 10 {
				t.Fatalf("cut at %d: %d records, %v", cut, len(all), err)
			}
			if all, err := read(engine(t, torn, "b", "")); err == nil || len(all) > 3 {
				t.Fatalf("cut at %d: %d records, %v", cut, len(all), err)
			}
			goesOn(t, torn, kept)
		}
	}
}

func TestRepairOfALostOrder(t *testing.T) {
	dir, want := sample(t)
	if err := os.Remove(filepath.Join(dir, "order")); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, want)
}

// One byte of a record that others follow is flipped: the reader says which file and where, and never shows it.
func TestDamageInTheMiddle(t *testing.T) {
	dir, want := sample(t)
	size := int64(HeaderSize + len(want[1].Payload))
	for off := size; off < 2*size; off++ { // b's second record of four, number 4 of the session
		torn := copyDir(t, dir)
		flip(t, filepath.Join(torn, "b.log"), off)
		for name, c := range map[string]*Cursor{"session": session(t, torn, ""), "engine": engine(t, torn, "b", "")} {
			all, err := read(c)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.File != filepath.Join(torn, "b.log") || damaged.Offset != size {
				t.Fatalf("%s, byte %d: %v", name, off, err)
			}
			if n := map[string]int{"session": 4, "engine": 1}[name]; len(all) != n {
				t.Fatalf("%s, byte %d: %d records before it, want %d", name, off, len(all), n)
			}
			_, _, again := c.Next(nil)
			if goesOn := name == "session"; goesOn && again != nil || !goesOn && (again == nil || again.Error() != err.Error()) {
				t.Fatalf("%s, asked again: %v", name, again)
			}
		}
	}
	for off := int64(5 * entrySize); off < 6*entrySize; off++ {
		torn := copyDir(t, dir)
		flip(t, filepath.Join(torn, "order"), off)
		all, err := read(session(t, torn, ""))
		if err == nil || !strings.Contains(err.Error(), "order is damaged at byte 160") || len(all) != 5 {
			t.Fatalf("byte %d: %d records, %v", off, len(all), err)
		}
		goesOn(t, torn, want)
	}
}

func flip(t *testing.T, path string, off int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[off] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMissingEngineLog(t *testing.T) {
	dir, _ := sample(t)
	if err := os.Remove(filepath.Join(dir, "a.log")); err != nil {
		t.Fatal(err)
	}
	_, err := read(session(t, dir, ""))
	if err == nil || !strings.Contains(err.Error(), "the output of a is not there any more: ") {
		t.Fatalf("got %v", err)
	}
}

// An append fails half way while somebody reads: the reader sees the half, then what was appended instead.
func TestReaderOfARetriedAppend(t *testing.T) {
	dir := t.TempDir()
	l := engineLog(t, openWriter(t, dir), "a")
	mustAppend(t, l, Stdout, at(1), "first ")
	e, s := engine(t, dir, "a", ""), session(t, dir, "")
	half := make([]byte, HeaderSize+100)
	sealRecord(half, Stderr, 0, at(2))
	if _, err := l.f.WriteAt(half[:90], l.end); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Cursor{e, s} {
		if all, err := read(c); len(all) != 1 || err != io.EOF {
			t.Fatalf("%v, %v", all, err)
		}
	}
	l.takeBack()
	mustAppend(t, l, Stdout, at(3), "second ")
	mustAppend(t, l, Stdout, at(3), "third")
	for _, c := range []*Cursor{e, s} {
		if got := payloads(readAll(t, c)); got != "second third" {
			t.Fatalf("got %q", got)
		}
	}
}
