package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLog reads any bytes as an engine's log and as an order: whatever comes out was in the file with a right checksum;
// after the writer's repair nothing that was read before is lost, and, but for damage in the middle, all of it has its
// place in the order.
func FuzzLog(f *testing.F) {
	record := func(payload string) []byte {
		b := append(make([]byte, HeaderSize), payload...)
		sealRecord(b, Stdout, 0, at(1))
		return b
	}
	one, two := record("one"), record("")
	order := entry{"a", int64(len(one)), len(two)}.appendTo(entry{"a", 0, len(one)}.appendTo(nil))
	f.Add([]byte{}, []byte{})
	f.Add(append(bytes.Clone(one), two...), order)
	f.Add(append(bytes.Clone(one), two[:10]...), order[:40])
	f.Add(append(append(bytes.Clone(one), 0, 0, 0), two...), order)
	f.Add(append(bytes.Clone(one), make([]byte, 100)...), append(bytes.Clone(order), make([]byte, 64)...))
	f.Add(two, entry{"a", maxOffset - 1, maxRecord}.appendTo(nil))
	f.Add(two, entry{"b", 0, len(two)}.appendTo(nil))
	f.Fuzz(func(t *testing.T, log, order []byte) {
		dir := t.TempDir()
		for name, b := range map[string][]byte{"a.log": log, "order": order} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := checkedRecords(t, engine(t, dir, "a", ""), log)
		checkedRecords(t, session(t, dir, ""), log)
		w := openWriter(t, dir)
		after, err := read(engine(t, dir, "a", ""))
		if len(after) < len(before) {
			t.Fatalf("the repair lost %d records", len(before)-len(after))
		}
		same(t, after[:len(before)], before)
		if err != io.EOF {
			return // damaged before records that are whole: that is not for the writer to cut off
		}
		if all := readAll(t, session(t, dir, "")); payloads(all) != payloads(after) || orderSize(w) != int64(len(after))*entrySize {
			t.Fatalf("%d records in the session, %d in the engine's log", len(all), len(after))
		}
	})
}

func checkedRecords(t *testing.T, c *Cursor, log []byte) []placed {
	all, err := read(c)
	var damaged *DamagedError
	if err != io.EOF && !errors.As(err, &damaged) {
		t.Fatal(err)
	}
	for _, p := range all {
		b := append(make([]byte, HeaderSize), p.Payload...)
		sealRecord(b, p.Stream, p.Flags, p.Time)
		if !bytes.Contains(log, b) {
			t.Fatalf("%s is not in the log", p)
		}
	}
	return all
}
