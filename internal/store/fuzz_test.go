package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"muster/engine"
)

// FuzzDecode: a record is what was written or is known to be damaged; what is read is written as it was read.
func FuzzDecode(f *testing.F) {
	for _, r := range []any{
		Session{ID: engine.NewID(), Created: time.Unix(1, 2).UTC(), Shared: []string{"/x"}},
		Batch{Number: 1, Retries: 3, Workers: []Worker{{ID: engine.NewID(), Attempt: 2, NotBefore: time.Unix(3, 4).UTC()}}},
		End{Status: engine.Failed, Exit: engine.Exit{Reason: engine.ReasonExitCode, Code: 3}},
	} {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"address":"100.100.0.256"}`))
	f.Add([]byte(`{"created":"yesterday","number":1e99}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		again(t, record, new(Session), new(Session))
		again(t, record, new(Batch), new(Batch))
		again(t, record, new(End), new(End))
	})
}

func again(t *testing.T, record []byte, one, two any) {
	t.Helper()
	if err := decode(record, one); err != nil {
		if !damaged(err) {
			t.Fatalf("%q: %v", record, err)
		}
		return
	}
	b, err := json.Marshal(one)
	if err != nil {
		return // a time of the year 10000, which no record of ours has
	}
	if err := decode(b, two); err != nil {
		t.Fatalf("%q was written as %q: %v", record, b, err)
	}
	if c, err := json.Marshal(two); err != nil || !bytes.Equal(b, c) {
		t.Fatalf("%q, then %q, %v", b, c, err)
	}
}

// FuzzSealed: only what was sealed, whole, for that name, is opened.
func FuzzSealed(f *testing.F) {
	f.Add([]byte("token"), "a/1", []byte{}, 3, "a/1")
	f.Add([]byte{}, "", []byte{0}, 0, "b")
	key, other := NewKey(), NewKey()
	f.Fuzz(func(t *testing.T, plain []byte, name string, anything []byte, at int, wrong string) {
		b, err := Seal(key, plain, name)
		if err != nil || len(plain) > 8 && bytes.Contains(b, plain) {
			t.Fatalf("%q, %v", b, err)
		}
		if got, err := Unseal(key, b, name); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%q, %v", got, err)
		}
		if at < 0 {
			return
		}
		changed := bytes.Clone(b)
		changed[at%len(b)]++
		for what, try := range map[string]func() ([]byte, error){
			"another key": func() ([]byte, error) { return Unseal(other, b, name) },
			"a changed":   func() ([]byte, error) { return Unseal(key, changed, name) },
			"a shorter":   func() ([]byte, error) { return Unseal(key, b[:at%len(b)], name) },
			"anything":    func() ([]byte, error) { return Unseal(key, anything, name) },
		} {
			if got, err := try(); err == nil {
				t.Fatalf("%s: %q", what, got)
			}
		}
		if got, err := Unseal(key, b, wrong); err == nil && wrong != name {
			t.Fatalf("for another name: %q", got)
		}
	})
}

// FuzzFile damages the database: it is opened or refused with the way out, and after Salvage it can be used.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	s, err := Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	if err := s.AddSession(Session{ID: engine.NewID(), Name: "x", Created: time.Unix(1, 0)}, []byte("sealed")); err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), []byte("not a database"), []byte{}, false)
	f.Add(uint16(100), make([]byte, 4096), []byte{}, false)
	f.Add(uint16(5000), []byte{1}, []byte("not a log"), true)
	f.Add(uint16(4096), bytes.Repeat([]byte{0xff}, 300), []byte{}, false)
	f.Fuzz(func(t *testing.T, at uint16, bad, wal []byte, cut bool) {
		dir := t.TempDir()
		b := bytes.Clone(good)
		i := int(at) % len(b)
		copy(b[i:], bad)
		if cut {
			b = b[:i]
		}
		path := filepath.Join(dir, FileName)
		if err := errors.Join(os.WriteFile(path, b, 0o600), os.WriteFile(path+"-wal", wal, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err == nil {
			err = s.readAll()
			if cerr := s.Close(); cerr != nil && err == nil {
				err = refusal(path, cerr)
			}
		}
		if err == nil {
			return
		}
		if engine.KindOf(err) != engine.Unavailable || damaged(err) && engine.HintOf(err) == "" {
			t.Fatalf("%v (%s)", err, engine.HintOf(err))
		}
		if !damaged(err) {
			return // of a later release, for one
		}
		if _, err := Salvage(dir); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(dir); err != nil {
			t.Fatalf("after Salvage: %v", err)
		}
		if err := errors.Join(s.readAll(), s.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
