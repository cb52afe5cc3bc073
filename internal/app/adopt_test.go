package app

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/store"
)

// world is a state folder, with a driver that has sessions there.
type world struct {
	t      *testing.T
	dir    string
	driver *fake.Driver
	said   strings.Builder
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), driver: fake.New(fake.Options{World: fake.NewWorld()})}
	t.Cleanup(func() { w.driver.Close() })
	if err := os.Mkdir(filepath.Join(w.dir, "sessions"), 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

// folder makes what a session that has ended leaves.
func (w *world) folder() engine.ID {
	id := engine.NewID()
	dir := filepath.Join(w.dir, "sessions", string(id))
	if err := os.MkdirAll(filepath.Join(dir, "console"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "project"), []byte("/p"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// lives makes a session that lives.
func (w *world) lives(ephemeral bool) {
	id := engine.NewID()
	s, err := w.driver.Open(w.t.Context(), driver.SessionSpec{
		ID: id, ConsoleDir: filepath.Join(w.dir, "sessions", string(id), "console"), Ephemeral: ephemeral, Observe: func(driver.Observation) {},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.End(context.Background(), 0, "the test") })
}

// open opens the records as a server that starts, and closes them.
func (w *world) open(salvage bool) error {
	w.said.Reset()
	s, err := openRecords(w.dir, w.driver, config{salvage: salvage, log: &w.said})
	if err == nil {
		err = s.Close()
	}
	return err
}

func (w *world) database() string { return filepath.Join(w.dir, store.FileName) }

// refused checks what a server that does not start says.
func (w *world) refused(words ...string) {
	w.t.Helper()
	for range 2 { // a refusal changes nothing
		err := w.open(false)
		if engine.KindOf(err) != engine.Unavailable {
			w.t.Fatalf("it starts, or: %v", err)
		}
		for _, word := range words {
			if said := err.Error() + " (" + engine.HintOf(err) + ")"; !strings.Contains(said, word) {
				w.t.Errorf("no %q in: %s", word, said)
			}
		}
	}
}

// Where sessions are and their records are not a server refuses to begin anew: it would forget those that ended, and end those that run.
func TestLostRecordsAreNotBegunAnew(t *testing.T) {
	for what, lose := range map[string]func(path string) error{
		"removed": os.Remove, "emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		w := newWorld(t)
		if err := w.open(false); err != nil { // the first server: a folder without sessions
			t.Fatal(err)
		}
		w.folder()
		w.folder()
		if err := w.open(false); err != nil { // killed before it recorded one: the database is there
			t.Fatal(err)
		}
		if err := lose(w.database()); err != nil {
			t.Fatal(what, err)
		}
		w.refused("2 sessions, of which none runs", w.database(), "--salvage", filepath.Join(w.dir, "sessions"))
		w.lives(false)
		w.refused("3 sessions, of which 1 runs", "ends the sessions that run")
		if err := w.open(true); err != nil || !strings.Contains(w.said.String(), "these are new") {
			t.Errorf("%s, salvaged: %v, %s", what, err, &w.said)
		}
		if err := w.open(false); err != nil {
			t.Errorf("%s, after the salvage: %v", what, err)
		}
	}
}

// A server that was killed before it had a session starts again, also if that was before there was anything in its database; and what
// is a "muster run" of its own's has no records.
func TestServersWithoutSessionsBegin(t *testing.T) {
	w := newWorld(t)
	w.lives(true)
	if err := os.Mkdir(filepath.Join(w.dir, "sessions", string(engine.NewID())), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.database(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.open(false); err != nil {
		t.Fatal(err)
	}
}

// Whose records are damaged is told what runs and may be ended by the way out.
func TestDamageSaysWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.folder()
	if err := os.WriteFile(w.database(), []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.open(false); !store.Damaged(err) || strings.Contains(engine.HintOf(err), "ended") {
		t.Errorf("%v (%s)", err, engine.HintOf(err))
	}
	w.lives(false)
	w.refused("damaged", "2 sessions, of which 1 runs", "--salvage", "no record is left are then ended")
}
