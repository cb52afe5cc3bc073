package console

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReplayIsIdentical(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "console")
	w := openWriter(t, dir)
	rng := rand.New(rand.NewPCG(1, 2))
	ids := []string{"a", "bbbbbbbbbbbbbbbb", "c-1_X"}
	var want []placed
	perEngine := map[string][]placed{}
	for i := range 500 {
		id := ids[rng.IntN(len(ids))]
		payload := make([]byte, []int{0, 1, 80, 5000, logWindow - HeaderSize, logWindow, MaxPayload}[rng.IntN(7)])
		for j := range payload {
			payload[j] = byte(rng.Uint32()) // NUL bytes and broken UTF-8 among them
		}
		r := Record{id, Stream(1 + rng.IntN(5)), uint8(rng.Uint32()), at(int64(i)), payload}
		if err := engineLog(t, w, id).Append(r.Stream, r.Flags, r.Time, payload); err != nil {
			t.Fatal(err)
		}
		want = append(want, placed{r, sessionPosition(orderSize(w))})
		r.Payload = bytes.Clone(payload)
		perEngine[id] = append(perEngine[id], placed{Record: r})
	}
	same(t, readAll(t, session(t, dir, "")), want)
	same(t, readAll(t, session(t, dir, "0")), want)
	for _, i := range []int{0, 1, 250, 498, 499} {
		same(t, readAll(t, session(t, dir, want[i].pos)), want[i+1:])
	}
	for _, id := range ids {
		all := readAll(t, engine(t, dir, id, ""))
		same(t, readAll(t, engine(t, dir, id, all[20].pos)), all[21:])
		for i := range all {
			perEngine[id][i].pos = all[i].pos
			if i > 0 && all[i].pos <= all[i-1].pos {
				t.Fatalf("position %s follows %s", all[i].pos, all[i-1].pos)
			}
		}
		same(t, all, perEngine[id])
	}
	info, err := os.Stat(filepath.Join(dir, "a.log"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestReadIntoTheCallersBuffer(t *testing.T) {
	dir := t.TempDir()
	l := engineLog(t, openWriter(t, dir), "a")
	big := strings.Repeat("x", MaxPayload)
	mustAppend(t, l, Stdout, at(1), big)
	c, buf := session(t, dir, ""), make([]byte, HeaderSize+MaxPayload)
	r, _, err := c.Next(buf)
	if err != nil || string(r.Payload) != big || &r.Payload[0] != &buf[HeaderSize] {
		t.Fatalf("%d bytes, %v, in the buffer: %v", len(r.Payload), err, &r.Payload[0] == &buf[HeaderSize])
	}
}

func TestAppendSplits(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	payload := strings.Repeat("0123456789", 20_000)
	mustAppend(t, engineLog(t, w, "a"), Stderr, at(5), payload)
	all := readAll(t, session(t, dir, ""))
	if len(all) != 4 || payloads(all) != payload {
		t.Fatalf("%d records, %d bytes", len(all), len(payloads(all)))
	}
	for _, r := range all {
		if r.Stream != Stderr || !r.Time.Equal(at(5)) || len(r.Payload) > MaxPayload {
			t.Fatalf("%.100s", r)
		}
	}
}

// One line of 200 MB, as a program without newlines prints it.
func TestHugeLine(t *testing.T) {
	dir := t.TempDir()
	l := engineLog(t, openWriter(t, dir), "a")
	const size = 200 << 20
	buf := make([]byte, HeaderSize+MaxPayload)
	for sent := 0; sent < size; sent += MaxPayload {
		for i := 0; i < MaxPayload; i += 64 {
			buf[HeaderSize+i] = byte(sent>>16 + i)
		}
		if err := l.AppendBuffer(Stdout, 0, at(1), buf); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*Cursor{session(t, dir, ""), engine(t, dir, "a", "")} {
		got := 0
		for {
			r, _, err := c.Next(nil)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < MaxPayload; i += 64 {
				if r.Payload[i] != byte(got>>16+i) {
					t.Fatalf("byte %d differs", got+i)
				}
			}
			got += len(r.Payload)
		}
		if got != size {
			t.Fatalf("got %d of %d bytes", got, size)
		}
	}
}

func TestReadBeforeAnythingExists(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	s, e := session(t, dir, ""), engine(t, dir, "a", "")
	for _, c := range []*Cursor{s, e} {
		if _, _, err := c.Next(nil); err != io.EOF {
			t.Fatalf("got %v, want io.EOF", err)
		}
	}
	mustAppend(t, engineLog(t, openWriter(t, dir), "a"), Stdout, at(1), "hello")
	for _, c := range []*Cursor{s, e} {
		if got := payloads(readAll(t, c)); got != "hello" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestManyEnginesFewDescriptors(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	ids := make([]string, 1000)
	for round := range 2 {
		for i := range ids {
			ids[i] = "engine-" + string(rune('a'+i/100)) + string(rune('a'+i/10%10)) + string(rune('a'+i%10))
			l := engineLog(t, w, ids[i])
			mustAppend(t, l, Stdout, at(int64(round)), ids[i])
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := descriptors(t)
	c := session(t, dir, "")
	all, err := read(c)
	if len(all) != 2000 || err != io.EOF {
		t.Fatalf("%d records, %v", len(all), err)
	}
	if n := descriptors(t) - before; n > maxOpenLogs+1 {
		t.Errorf("the cursor holds %d descriptors", n)
	}
	c.Close()
	if n := descriptors(t) - before; n != 0 {
		t.Errorf("%d descriptors are left after Close", n)
	}
}

func descriptors(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	if _, err := OpenWriter(dir); err == nil || !strings.Contains(err.Error(), "has a writer already") {
		t.Fatalf("second writer: %v", err)
	}
	l := engineLog(t, w, "a")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(Stdout, 0, at(1), []byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	if _, err := w.Log("a"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("log after Close: %v", err)
	}
	if err := w.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sync after Close: %v", err)
	}
	openWriter(t, dir)
}

func TestCloseAndReopenALog(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	for _, s := range []string{"one ", "two ", "three"} {
		l := engineLog(t, w, "a")
		mustAppend(t, l, Stdout, at(1), s)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(Stdout, 0, at(1), nil); !errors.Is(err, os.ErrClosed) {
			t.Errorf("append to a closed log: %v", err)
		}
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		if len(w.ended) != 0 {
			t.Errorf("after Sync: %+v", w.ended)
		}
	}
	if got := payloads(readAll(t, session(t, dir, ""))); got != "one two three" {
		t.Fatalf("got %q", got)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	r, _ := Open(dir)
	for _, id := range []string{"", "../a", "a/b", "a.b", "12345678901234567", "ä", "order\x00"} {
		if _, err := w.Log(id); err == nil || !strings.Contains(err.Error(), "invalid engine id") {
			t.Errorf("Log(%q): %v", id, err)
		}
		if _, err := r.Engine(id, ""); err == nil {
			t.Errorf("Engine(%q) was accepted", id)
		}
	}
	l := engineLog(t, w, "a")
	if err := l.Append(9, 0, at(1), nil); err == nil || !strings.Contains(err.Error(), "stream(9)") {
		t.Errorf("unknown stream: %v", err)
	}
	for _, n := range []int{0, HeaderSize - 1, HeaderSize + MaxPayload + 1} {
		if err := l.AppendBuffer(Stdout, 0, at(1), make([]byte, n)); err == nil {
			t.Errorf("a buffer of %d bytes was accepted", n)
		}
	}
	file := filepath.Join(dir, "order")
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("Open(a file): %v", err)
	}
	if _, err := OpenWriter(file); err == nil {
		t.Error("OpenWriter(a file) was accepted")
	}
	if all := readAll(t, session(t, dir, "")); len(all) != 0 {
		t.Errorf("refused appends left %v", all)
	}
}

func TestStreamNames(t *testing.T) {
	for s := Stdout; s <= Display; s++ {
		if back, err := ParseStream(s.String()); err != nil || back != s {
			t.Errorf("%d: %q, %v", s, s, err)
		}
	}
	for _, bad := range []string{"", "STDOUT", "stream(0)"} {
		if _, err := ParseStream(bad); err == nil {
			t.Errorf("ParseStream(%q) was accepted", bad)
		}
	}
}

func TestTimeSurvives(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	mustAppend(t, engineLog(t, openWriter(t, dir), "a"), Stdout, now, "x")
	if got := readAll(t, session(t, dir, ""))[0].Time; !got.Equal(now) {
		t.Errorf("got %v, want %v", got, now)
	}
}
