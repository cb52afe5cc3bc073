package audit

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func read(t *testing.T, l *Log, since time.Time) (all []Entry) {
	t.Helper()
	if err := l.Each(since, func(e Entry) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	early, late := time.Unix(1000, 0), time.Unix(2000, 0)
	engines := make([]string, 50)
	for _, e := range []Entry{
		{At: early, Action: Launch, User: "alice", UID: 1, From: "unix", Engines: engines, About: strings.Repeat("x", 2000), Result: "ok"},
		{At: late, Action: Stop, User: "bob", UID: 2, From: "10.0.0.1", Result: "not_found"},
	} {
		if err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	// A crash has torn the last line: it is one line less, and not the next one too.
	path := filepath.Join(dir, "audit.jsonl")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"at":"2026-01-01T00:`)
	f.Close()
	before, _ := os.Stat(path)
	if l, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if after, _ := os.Stat(path); after.Size() != before.Size() {
		t.Error("opening it wrote something: on a full disk no server would start")
	}
	if err := l.Add(Entry{At: late, Action: CreateToken, User: "alice", Result: "ok"}); err != nil {
		t.Fatal(err)
	}
	all := read(t, l, time.Time{})
	if len(all) != 3 || all[0].Action != Launch || all[2].Action != CreateToken || len(all[0].Engines) != maxEngines || len(all[0].About) > maxText+4 {
		t.Errorf("%+v", all)
	}
	if all := read(t, l, late); len(all) != 2 {
		t.Errorf("since: %+v", all)
	}
	stop := errors.New("enough")
	if err := l.Each(time.Time{}, func(Entry) error { return stop }); err != stop {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// The files turn, nothing of the newer ones is lost, and there are no more than so many.
// What could not be opened is nothing that would have to be closed.
func TestAuditNotOpened(t *testing.T) {
	if l, err := Open(filepath.Join(t.TempDir(), "missing")); err == nil || l != nil {
		t.Errorf("%v, %v", l, err)
	}
}

func TestAuditTurns(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.max = 500
	const lines = 200
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range lines / 4 {
				if err := l.Add(Entry{At: time.Now(), Action: Launch, User: "alice", From: "unix", Result: "ok"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	files, _ := filepath.Glob(filepath.Join(dir, "audit*.jsonl"))
	if len(files) != maxOld+1 {
		t.Errorf("%d files", len(files))
	}
	all := read(t, l, time.Time{})
	per := len(all) / len(files)
	if per < 2 || len(all) < per*maxOld {
		t.Errorf("%d lines in %d files", len(all), len(files))
	}
	for i := 1; i < len(all); i++ {
		if all[i].At.Before(all[i-1].At.Add(-time.Second)) {
			t.Errorf("line %d is older than the one before", i)
		}
	}
}

// fullDisk takes half of a line, then nothing, and then all again.
type fullDisk struct {
	io.WriteCloser
	taken []float64
}

func (d *fullDisk) Write(b []byte) (int, error) {
	if len(d.taken) == 0 {
		return d.WriteCloser.Write(b)
	}
	n := int(float64(len(b)) * d.taken[0])
	d.taken = d.taken[1:]
	n, err := d.WriteCloser.Write(b[:n])
	return n, errors.Join(err, syscall.ENOSPC)
}

// What a full disk has torn is one line less: the lines that come when there is room again are whole.
func TestAuditFullDisk(t *testing.T) {
	l, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.file = &fullDisk{l.file, []float64{0.5, 0, 0.5}}
	for i, user := range []string{"torn", "lost", "torn too", "alice", "bob"} {
		if err := l.Add(Entry{At: time.Now(), Action: Launch, User: user, Result: "ok"}); (err != nil) != (i < 3) {
			t.Errorf("%s: %v", user, err)
		}
	}
	if all := read(t, l, time.Time{}); len(all) != 2 || all[0].User != "alice" || all[1].User != "bob" {
		t.Errorf("%+v", all)
	}
}

// Where no new file can be made, the last one goes on, and the older ones stay.
func TestAuditCannotTurn(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.max = 500
	add := func(user string) error {
		return l.Add(Entry{At: time.Now(), Action: Launch, User: user, From: "unix", Result: "ok"})
	}
	for range 20 {
		if err := add("first"); err != nil {
			t.Fatal(err)
		}
	}
	before := len(read(t, l, time.Time{}))
	open := l.create
	l.create = func(string) (*os.File, error) { return nil, syscall.EMFILE }
	failed := 0
	for range 40 {
		if add("second") != nil {
			failed++
		}
	}
	l.create = open
	if failed == 0 {
		t.Fatal("nothing failed")
	}
	if err := add("third"); err != nil {
		t.Error(err)
	}
	of := map[string]int{}
	for _, e := range read(t, l, time.Time{}) {
		of[e.User]++
	}
	if of["first"] != before || of["second"] != 40 || of["third"] != 1 {
		t.Errorf("%v, and %d before", of, before)
	}
}

// What others name does not make a line that keeps the next ones from being read.
func TestAuditLongLines(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 3<<20)
	if err := os.WriteFile(filepath.Join(dir, "audit.jsonl"), []byte(`{"user":"`+long+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Add(Entry{At: time.Now(), Action: Stop, User: "alice", Session: long, Engines: []string{long, "a"}, Result: "ok"}); err != nil {
		t.Fatal(err)
	}
	all := read(t, l, time.Time{})
	if len(all) != 1 || len(all[0].Session) > maxText+4 || len(all[0].Engines[0]) > maxText+4 || all[0].Engines[1] != "a" {
		t.Errorf("%d lines", len(all))
	}
}
