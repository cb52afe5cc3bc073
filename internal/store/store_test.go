package store

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/engine"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fill records n sessions, each with a launch of two workers of which one has ended.
func fill(t *testing.T, s *Store, n int) (ids []engine.ID) {
	t.Helper()
	for i := range n {
		r := Session{ID: engine.NewID(), Kind: "script", Name: fmt.Sprint("session ", i), Project: "/p", Created: time.Now().UTC(), API: "http://a:1"}
		if err := s.AddSession(r, []byte("sealed")); err != nil {
			t.Fatal(err)
		}
		b := Batch{Number: 1, Name: "w", Created: r.Created, CPU: 1, Memory: 0.5, Workers: []Worker{
			{ID: engine.NewID(), Address: netip.MustParseAddr("100.100.0.2")}, {ID: engine.NewID(), Address: netip.MustParseAddr("100.100.0.3")},
		}}
		if err := s.AddBatch(r.ID, b, []byte("work")); err != nil {
			t.Fatal(err)
		}
		end := End{Engine: b.Workers[0].ID, Status: engine.Failed, Exit: engine.Exit{Reason: engine.ReasonExitCode, Code: 3, At: r.Created}}
		if err := s.AddEnds(r.ID, []End{end}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func TestRecordsComeBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ids := fill(t, s, 2)
	if err := s.EndSession(ids[0], []End{{Engine: ids[0], Status: engine.Succeeded}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	all, err := s.Sessions()
	if err != nil || len(all) != 2 || all[0].ID != ids[0] || all[1].ID != ids[1] {
		t.Fatalf("%+v, %v", all, err)
	}
	if !all[0].Ended || all[0].Secret != nil || all[1].Ended || string(all[1].Secret) != "sealed" || all[1].API != "http://a:1" {
		t.Errorf("%+v", all)
	}
	for i, secret := range []string{"", "work"} {
		batches, err := s.Batches(ids[i])
		if err != nil || len(batches) != 1 || len(batches[0].Workers) != 2 || string(batches[0].Secret) != secret {
			t.Fatalf("%+v, %v", batches, err)
		}
		ends, err := s.Ends(ids[i])
		if e := ends[batches[0].Workers[0].ID]; err != nil || len(ends) != 2-i || e.Exit.Code != 3 || e.Status != engine.Failed {
			t.Errorf("%+v, %v", ends, err)
		}
	}
	if err := s.Forget(ids[1]); err != nil {
		t.Fatal(err)
	}
	batches, _ := s.Batches(ids[1])
	ends, _ := s.Ends(ids[1])
	if len(batches)+len(ends) != 0 {
		t.Errorf("a forgotten session left %d launches and %d ends", len(batches), len(ends))
	}
}

// The last end that is recorded of an engine is its end: whether it is tried again may change.
func TestTheLastRecordOfAnEndCounts(t *testing.T) {
	s := open(t, t.TempDir())
	id := fill(t, s, 1)[0]
	for _, code := range []int{0, 7} {
		if err := s.AddEnds(id, []End{{Engine: "e", Exit: engine.Exit{Code: code}}}); err != nil {
			t.Fatal(err)
		}
	}
	if ends, _ := s.Ends(id); ends["e"].Exit.Code != 7 {
		t.Errorf("%+v", ends)
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	fill(t, open(t, dir), 1)
	_, err := Open(dir)
	if engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), "in use by another server") || engine.HintOf(err) == "" {
		t.Fatal(err)
	}
}

func TestNobodyElseReadsIt(t *testing.T) {
	dir := t.TempDir()
	fill(t, open(t, dir), 1)
	files, err := filepath.Glob(filepath.Join(dir, FileName+"*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(f, info.Mode(), err)
		}
	}
}

func TestLaterReleaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.db.Exec("PRAGMA user_version = 1000"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "later release") {
		t.Fatal(err)
	}
}

// A page in the middle of the file is overwritten: the file is refused, and salvaging keeps what is whole.
func TestDamagedFileIsRefusedAndSalvaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s, 300)
	s.Close()
	path := filepath.Join(dir, FileName)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := len(content) / 2 &^ 4095
	copy(content[at:at+4096], bytes.Repeat([]byte{0xa5}, 4096))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	if engine.KindOf(err) != engine.Unavailable || !strings.Contains(err.Error(), "damaged") || !strings.Contains(engine.HintOf(err), "--salvage") {
		t.Fatal(err)
	}
	found, err := Salvage(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(found)
	if found.Kept["sessions"] == 0 || !found.Lost || found.Aside == "" {
		t.Errorf("%+v", found)
	}
	if aside, err := os.ReadFile(found.Aside); err != nil || !bytes.Equal(aside, content) {
		t.Errorf("the damaged file is not kept as it was: %v", err)
	}
	all, err := open(t, dir).Sessions()
	if err != nil || len(all) != found.Kept["sessions"] {
		t.Errorf("%d sessions, %v", len(all), err)
	}
}

func TestWhatIsNoDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(engine.HintOf(err), "--salvage") {
		t.Fatal(err)
	}
	found, err := Salvage(dir)
	if err != nil || !found.Lost {
		t.Fatal(found, err)
	}
	open(t, dir)
}

// What is no record although the file is whole: whoever reads it is told of Salvage, which is the way out of it.
func TestSalvageOfRecordsThatAreNone(t *testing.T) {
	for _, change := range []string{
		"UPDATE sessions SET record = 'x' WHERE id = ?", "UPDATE batches SET record = '{' WHERE session = ?", "UPDATE ends SET record = x'00' WHERE session = ?",
		"UPDATE sessions SET ended = 'no' WHERE id = ?", "UPDATE tokens SET hash = x'00' WHERE ? != ''", "ALTER TABLE tokens RENAME COLUMN hash TO hasi",
	} {
		dir := t.TempDir()
		s := open(t, dir)
		ids := fill(t, s, 2)
		if err := s.AddToken(Token{ID: "a"}); err != nil {
			t.Fatal(err)
		}
		args := []any{ids[0]}
		if _, err := s.db.Exec(change, args[:strings.Count(change, "?")]...); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s, err := Open(dir)
		if err == nil {
			err = errors.Join(s.readAll(), s.Close())
		}
		if !strings.Contains(engine.HintOf(err), "--salvage") {
			t.Errorf("%s: %v (%s)", change, err, engine.HintOf(err))
		}
		found, err := Salvage(dir)
		if err != nil || found.Aside == "" {
			t.Errorf("%s: %v, %v", change, found, err)
		}
		s = open(t, dir)
		if err := s.readAll(); err != nil {
			t.Errorf("%s, salvaged: %v", change, err)
		}
		if all, err := s.Sessions(); err != nil || len(all) == 0 || all[len(all)-1].ID != ids[1] {
			t.Errorf("%s, salvaged: %v, %v", change, all, err)
		}
	}
}

// Damage hides no more than it has hit: sessions whose records are lost are ended by the next server, also those that live.
func TestSalvageReadsFromBothEnds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s, 300)
	s.Close()
	path := filepath.Join(dir, FileName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	salvaged := 0
	for at := 2 * page; at < len(good); at += page {
		bad := bytes.Clone(good)
		copy(bad[at:at+page], bytes.Repeat([]byte{0xa5}, page))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := Salvage(dir)
		if err != nil {
			t.Fatal(err)
		}
		leaf := good[at] == 10 // of an index, which these tables are; another page leads to many of them
		if found.Aside != "" && leaf {
			salvaged++
			if n := found.Kept["sessions"]; n < 270 {
				t.Errorf("of 300 sessions %d are kept after damage to page %d", n, at/page)
			}
		}
	}
	if salvaged < 10 {
		t.Errorf("damage to %d pages was recognised", salvaged)
	}
}

// A salvage that is killed between its last steps leaves no empty records.
func TestSalvageIsFinished(t *testing.T) {
	for _, steps := range []int{1, 2} { // of setting aside
		dir := t.TempDir()
		s := open(t, dir)
		fill(t, s, 3)
		s.Close()
		path := filepath.Join(dir, FileName)
		if err := os.Rename(path, path+freshSuffix); err != nil { // as it is then
			t.Fatal(err)
		}
		if steps == 1 {
			if err := os.WriteFile(path+"-wal", []byte("of the damaged file"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if all, err := open(t, dir).Sessions(); err != nil || len(all) != 3 {
			t.Errorf("%d: %v, %v", steps, all, err)
		}
	}
}

func TestSalvageLeavesWhatIsWhole(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s, 1)
	s.Close()
	found, err := Salvage(dir)
	if err != nil || found.Aside != "" {
		t.Fatal(found, err)
	}
	if all, err := open(t, dir).Sessions(); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
}

// Who knows that records should be there is asked before new ones are begun: also where nothing but the log is gone, in which they
// were. A refusal changes nothing, so that the next one asks again.
func TestNewRecordsAreBegunUnlessTheyAreLost(t *testing.T) {
	wal := []byte("all that is left")
	for what, change := range map[string]func(path string) error{
		"no file":     func(string) error { return nil },
		"empty":       func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"but its log": func(path string) error { return os.WriteFile(path+"-wal", wal, 0o600) },
		"emptied": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.WriteFile(path+"-wal", wal, 0o600))
		},
		"no tables": func(path string) error {
			db, err := connect(path)
			if err == nil {
				err = errors.Join(touch(path), db.Ping(), db.Close())
			}
			return err
		},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, FileName)
		if err := change(path); err != nil {
			t.Fatal(what, err)
		}
		lost := errors.New("they are lost")
		for range 2 {
			if _, err := OpenUnless(dir, func(at string) error {
				if at != path {
					t.Errorf("%s: asked for %s", what, at)
				}
				return lost
			}); !errors.Is(err, lost) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		found, err := Salvage(dir)
		if err != nil || !found.Begun || !strings.Contains(found.String(), "no records") {
			t.Errorf("%s: %v, %v", what, found, err)
		}
		if strings.Contains(what, "log") || what == "emptied" {
			if b, err := os.ReadFile(found.Aside + "-wal"); err != nil || !bytes.Equal(b, wal) {
				t.Errorf("%s: the log is not set aside: %q, %v", what, b, err)
			}
		}
		for range 2 { // begun and empty is not lost
			s, err := OpenUnless(dir, func(string) error { return lost })
			if err != nil {
				t.Fatalf("%s, salvaged: %v", what, err)
			}
			s.Close()
		}
	}
}

// Records that were just begun are whole without their log, which a power cut may take.
func TestBegunRecordsAreOnTheDisk(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	open(t, dir)
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if err == nil {
		err = os.WriteFile(filepath.Join(copied, FileName), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenUnless(copied, func(string) error { return errors.New("they are lost") })
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	for _, step := range []string{"begin", "commit"} {
		s := open(t, t.TempDir())
		s.fail = func(at string) error {
			if at == step {
				return errors.New("injected")
			}
			return nil
		}
		err := s.AddSession(Session{ID: engine.NewID()}, nil)
		if engine.KindOf(err) != engine.Unavailable || !strings.Contains(err.Error(), "injected") {
			t.Fatal(step, err)
		}
		s.fail = nil
		if all, err := s.Sessions(); err != nil || len(all) != 0 {
			t.Error(step, all, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: a disk of its own needs a mount")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("capability private mounts: %v: %s", err, out)
	}
	defer exec.Command("umount", dir).Run()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := 0
	for ; done < 1000 && err == nil; done++ {
		err = s.AddSession(Session{ID: engine.NewID(), Name: strings.Repeat("x", 4000)}, nil)
	}
	if engine.KindOf(err) != engine.Unavailable || !strings.Contains(engine.HintOf(err), "make room") {
		t.Fatal(err, engine.HintOf(err))
	}
	if all, err := s.Sessions(); err != nil || len(all) != done-1 {
		t.Errorf("%d of %d sessions are there: %v", len(all), done-1, err)
	}
}

func TestSeal(t *testing.T) {
	key, other := NewKey(), NewKey()
	sealed, err := Seal(key, []byte("secret"), "a")
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatal(err)
	}
	if plain, err := Unseal(key, sealed, "a"); err != nil || string(plain) != "secret" {
		t.Fatal(plain, err)
	}
	for _, bad := range []struct {
		key  []byte
		name string
	}{{other, "a"}, {key, "b"}, {key[:16], "a"}} {
		if _, err := Unseal(bad.key, sealed, bad.name); err == nil {
			t.Errorf("opened as %s", bad.name)
		}
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := Unseal(key, sealed, "a"); err == nil {
		t.Error("changed and opened")
	}
}
