package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tinyDisk mounts a file system of size bytes. Skips name the capability that is missing: "root".
func tinyDisk(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test needs root to mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("console-test", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The disk is full, and the same append is tried until there is room again: nothing is lost or doubled.
func TestFullDisk(t *testing.T) {
	disk := tinyDisk(t, "size=1m,mode=0700")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(disk, "console")
	w := openWriter(t, dir)
	a, b := engineLog(t, w, "a"), engineLog(t, w, "b")
	var want []byte
	failures := 0
	reader := session(t, dir, "")
	var seen []placed
	for i := range 40 {
		piece := bytes.Repeat([]byte{byte(i)}, 20_000+i)
		buf := append(make([]byte, HeaderSize), piece...)
		l := a
		if i%2 == 1 {
			l = b
		}
		order := orderSize(w)
		for err := l.AppendBuffer(Stdout, 0, at(int64(i)), buf); err != nil; err = l.AppendBuffer(Stdout, 0, at(int64(i)), buf) {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("append %d: %v", i, err)
			}
			if orderSize(w) != order || fileSize(t, dir, l.id+".log") != l.end {
				t.Fatalf("the failed append %d left something", i)
			}
			if failures++; failures == 3 {
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
			}
			if failures > 10 {
				t.Fatalf("still %v after space was freed", err)
			}
		}
		want = append(want, piece...)
		more, err := read(reader)
		if err != io.EOF {
			t.Fatal(err)
		}
		seen = append(seen, more...)
	}
	if failures < 3 {
		t.Fatal("the disk was never full")
	}
	if w.order.promised != 0 {
		t.Errorf("room for %d entries is promised to nobody", w.order.promised)
	}
	if !bytes.Equal([]byte(payloads(seen)), want) {
		t.Error("what was followed is not what was appended")
	}
	same(t, readAll(t, session(t, dir, "")), seen)
}

// An append in several records fails in a later one: none of them stays.
func TestFullDiskWithinASplitAppend(t *testing.T) {
	disk := tinyDisk(t, "size=512k,mode=0700")
	w := openWriter(t, filepath.Join(disk, "console"))
	a, b := engineLog(t, w, "a"), engineLog(t, w, "b")
	mustAppend(t, a, Stdout, at(1), "kept ")
	big := strings.Repeat("0123456789", 60_000)
	for range 3 {
		if err := a.Append(Stdout, 0, at(2), []byte(big)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
		mustAppend(t, b, Stdout, at(2), "b ")
	}
	if err := syscall.Mount("console-test", disk, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, a, Stdout, at(3), big)
	if got := payloads(readAll(t, session(t, w.dir, ""))); got != "kept b b b "+big {
		t.Fatalf("got %d bytes", len(got))
	}
	if got := payloads(readAll(t, engine(t, w.dir, "a", ""))); got != "kept "+big {
		t.Fatalf("got %d bytes in the engine's log", len(got))
	}
}

func TestNoRoomForAnotherLog(t *testing.T) {
	disk := tinyDisk(t, "size=1m,nr_inodes=4,mode=0700") // the root, the folder, the order and one log
	w := openWriter(t, filepath.Join(disk, "console"))
	mustAppend(t, engineLog(t, w, "a"), Stdout, at(1), "x")
	if _, err := w.Log("b"); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "engine b") {
		t.Fatalf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWriter(filepath.Join(disk, "another")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
}

// There is room for records, but the order cannot be written: the record is taken back, and the retry is the only one.
func TestOrderCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	l := engineLog(t, w, "a")
	mustAppend(t, l, Stdout, at(1), "one ")
	writable := w.order.f
	readOnly, err := os.Open(filepath.Join(dir, "order"))
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	w.order.f = readOnly
	for range 2 {
		if err := l.Append(Stdout, 0, at(2), []byte("two ")); !errors.Is(err, syscall.EBADF) {
			t.Fatalf("got %v", err)
		}
		if size := fileSize(t, dir, "a.log"); size != l.end || l.trim {
			t.Fatalf("a.log has %d bytes, ordered are %d", size, l.end)
		}
	}
	w.order.f = writable
	mustAppend(t, l, Stdout, at(2), "two ")
	mustAppend(t, l, Stdout, at(3), "three")
	for _, c := range []*Cursor{session(t, dir, ""), engine(t, dir, "a", "")} {
		if got := payloads(readAll(t, c)); got != "one two three" {
			t.Fatalf("got %q", got)
		}
	}
}

// Not even cutting works: the next append, or the one after Close and Log, begins with it.
func TestFailedAppendIsCutOffLater(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	l := engineLog(t, w, "a")
	mustAppend(t, l, Stdout, at(1), "one ")
	writable := l.f
	readOnly, err := os.Open(filepath.Join(dir, "a.log"))
	if err != nil {
		t.Fatal(err)
	}
	half := make([]byte, HeaderSize+100)
	sealRecord(half, Stdout, 0, at(2))
	if _, err := writable.WriteAt(half[:70], l.end); err != nil {
		t.Fatal(err)
	}
	l.f = readOnly
	if err := l.Append(Stdout, 0, at(2), []byte("two ")); err == nil || !l.trim {
		t.Fatalf("got %v, trim %v", err, l.trim)
	}
	l.f = writable
	mustAppend(t, l, Stdout, at(2), "two ")
	if l.trim {
		t.Error("trim is still set")
	}
	if _, err := writable.WriteAt(half[:70], l.end); err != nil {
		t.Fatal(err)
	}
	l.trim, l.f = true, readOnly
	writable.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, engineLog(t, w, "a"), Stdout, at(3), "three")
	for _, c := range []*Cursor{session(t, dir, ""), engine(t, dir, "a", "")} {
		if got := payloads(readAll(t, c)); got != "one two three" {
			t.Fatalf("got %q", got)
		}
	}
}
