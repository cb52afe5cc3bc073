package store

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Salvaged tells what could be kept of a damaged database.
type Salvaged struct {
	Kept  map[string]int // rows by table
	Lost  bool           // a table ended early: there was more
	Aside string         // where the damaged file is now; "" if nothing was damaged
	Begun bool           // there were no records at all: these are new
}

// salvaged are the tables in the order in which they can be filled again, with the orders in which they are read: from both ends
// damage hides only what it has hit.
var salvaged = []struct {
	table string
	from  []string   // columns by their numbers: names may be damaged
	kind  func() any // what its records are
}{
	{"sessions", []string{"1", "1 DESC"}, func() any { return new(Session) }},
	{"batches", []string{"1, 2", "1 DESC, 2 DESC"}, func() any { return new(Batch) }},
	{"ends", []string{"1, 2", "1 DESC, 2 DESC"}, func() any { return new(End) }},
}

const freshSuffix = ".salvage"

// Salvage makes a new database of what can be read of a damaged one, which it sets aside under another name, with the files
// beside it. One that is whole is left as it is. Nobody may have it open.
func Salvage(dir string) (Salvaged, error) {
	path := filepath.Join(dir, FileName)
	found := Salvaged{Kept: map[string]int{}}
	if err := finishSalvage(path); err != nil {
		return found, err
	}
	if empty(path) { // SQLite would remove the log of an emptied file, which may be all that is left
		if _, err := os.Stat(path + "-wal"); err == nil {
			if err := found.setAside(path); err != nil {
				return found, err
			}
		}
	}
	s, err := Open(dir)
	if err == nil {
		found.Begun = s.begun
		err = errors.Join(s.readAll(), s.Close())
	}
	if err == nil || !damaged(err) {
		return found, err
	}
	fresh := path + freshSuffix
	if err := remove(fresh); err != nil {
		return Salvaged{}, err
	}
	if err := found.copy(path, fresh); err != nil {
		return Salvaged{}, fmt.Errorf("salvage %s: %w", path, errors.Join(err, remove(fresh)))
	}
	if err := found.setAside(path); err != nil {
		return Salvaged{}, err
	}
	return found, os.Rename(fresh, path)
}

func (f *Salvaged) setAside(path string) error {
	f.Aside = path + time.Now().UTC().Format(".damaged-20060102-150405")
	for _, suffix := range []string{"", "-wal"} {
		if err := os.Rename(path+suffix, f.Aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// finishSalvage takes what a Salvage has kept that was killed when the damaged file was aside: else the records would be empty.
func finishSalvage(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(path + freshSuffix); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(path + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) { // of the damaged file
		return err
	}
	return os.Rename(path+freshSuffix, path)
}

// readAll finds records that are none although the file is whole.
func (s *Store) readAll() error {
	all, err := s.Sessions()
	if _, tokens := s.Tokens(); err != nil || tokens != nil {
		return errors.Join(err, tokens)
	}
	for _, k := range all {
		if _, err := s.Batches(k.ID); err != nil {
			return err
		}
		if _, err := s.Ends(k.ID); err != nil {
			return err
		}
	}
	return nil
}

func remove(path string) error {
	for _, suffix := range []string{"", "-wal", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copy reads every table as far as it can be read.
func (f *Salvaged) copy(from, to string) error {
	if err := touch(to); err != nil {
		return err
	}
	out, err := connect(to)
	if err != nil {
		return err
	}
	s := &Store{path: to, db: out}
	if err := s.migrate(func(string) error { return nil }); err != nil {
		return errors.Join(err, out.Close())
	}
	in, err := sql.Open("sqlite", "file:"+escape(from)+"?mode=ro")
	if err != nil {
		return errors.Join(err, out.Close())
	}
	in.SetMaxOpenConns(1)
	for _, t := range salvaged {
		for _, from := range t.from {
			whole := false
			if whole, err = f.copyTable(in, s, t.table, from, t.kind); err != nil || whole {
				break
			}
			f.Lost = true
		}
		if err != nil {
			break
		}
	}
	in.Close() // only read from
	return errors.Join(err, s.Close())
}

// copyTable stops without an error where reading does, and is whole if that was the end. Rows whose session is lost are not taken.
func (f *Salvaged) copyTable(in *sql.DB, s *Store, table, from string, kind func() any) (whole bool, err error) {
	rows, err := in.Query("SELECT * FROM " + table + " ORDER BY " + from)
	if err != nil {
		return false, nil
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return false, nil
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	insert := "INSERT OR IGNORE INTO " + table + " VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ")"
	for rows.Next() {
		if rows.Scan(into...) != nil {
			return false, nil
		}
		if !isRecord(columns, values, kind()) {
			f.Lost = true
			continue
		}
		done, err := s.db.Exec(insert, values...)
		switch {
		case err == nil:
			n, _ := done.RowsAffected() // 0: it was there
			f.Kept[table] += int(n)
		case codeOf(err) == sqlite3.SQLITE_CONSTRAINT:
			f.Lost = true
		case codeOf(err) == sqlite3.SQLITE_ERROR: // the table's own description is damaged
			return false, nil
		default:
			return false, err
		}
	}
	return rows.Err() == nil, nil
}

// isRecord reports whether a row can be read again as what was written.
func isRecord(columns []string, values []any, record any) bool {
	for i, c := range columns {
		ok := true
		switch v := values[i].(type) {
		case string:
			ok = c != "created" && c != "ended" && c != "number" && (c != "record" || decode([]byte(v), record) == nil)
		case []byte:
			ok = c == "secret" || c == "record" && decode(v, record) == nil
		case int64:
			ok = c == "created" || c == "number" || c == "ended" && v&^1 == 0
		default:
			ok = v == nil && c == "secret"
		}
		if !ok {
			return false
		}
	}
	return true
}

func (f Salvaged) String() string {
	switch {
	case f.Begun && f.Aside != "":
		return "there were no records to keep: these are new; what was there is " + f.Aside
	case f.Begun:
		return "there were no records to keep: these are new"
	case f.Aside == "":
		return "the records are whole"
	}
	rest := ""
	if f.Lost {
		rest = "; the rest could not be read"
	}
	return fmt.Sprintf("kept the records of %d sessions, %d launches and %d ends%s; the damaged file is %s",
		f.Kept["sessions"], f.Kept["batches"], f.Kept["ends"], rest, f.Aside)
}
