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
}

// salvaged are the tables in the order in which they can be filled again.
var salvaged = []string{"sessions", "batches", "ends"}

// Salvage makes a new database of what can be read of a damaged one, which it sets aside under another name, with the files
// beside it. One that is whole is left as it is. Nobody may have it open.
func Salvage(dir string) (Salvaged, error) {
	path := filepath.Join(dir, FileName)
	s, err := Open(dir)
	switch {
	case err == nil:
		return Salvaged{}, s.Close()
	case !damaged(err):
		return Salvaged{}, err
	}
	fresh := path + ".salvage"
	if err := remove(fresh); err != nil {
		return Salvaged{}, err
	}
	found := Salvaged{Kept: map[string]int{}}
	if err := found.copy(path, fresh); err != nil {
		return Salvaged{}, fmt.Errorf("salvage %s: %w", path, errors.Join(err, remove(fresh)))
	}
	found.Aside = path + time.Now().UTC().Format(".damaged-20060102-150405")
	for _, suffix := range []string{"", "-wal"} {
		if err := os.Rename(path+suffix, found.Aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Salvaged{}, err
		}
	}
	return found, os.Rename(fresh, path)
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
	if err := s.migrate(); err != nil {
		return errors.Join(err, out.Close())
	}
	in, err := sql.Open("sqlite", "file:"+escape(from)+"?mode=ro")
	if err != nil {
		return errors.Join(err, out.Close())
	}
	in.SetMaxOpenConns(1)
	for _, table := range salvaged {
		if err = f.copyTable(in, s, table); err != nil {
			break
		}
	}
	in.Close() // only read from
	return errors.Join(err, s.Close())
}

// copyTable stops without an error where reading does: the rest is lost. Rows whose session is lost are not taken.
func (f *Salvaged) copyTable(in *sql.DB, s *Store, table string) error {
	rows, err := in.Query("SELECT * FROM " + table)
	if err != nil {
		f.Lost = true
		return nil
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		f.Lost = true
		return nil
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	insert := "INSERT OR IGNORE INTO " + table + " VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ")"
	for rows.Next() {
		if rows.Scan(into...) != nil {
			f.Lost = true
			return nil
		}
		_, err := s.db.Exec(insert, values...)
		switch {
		case err == nil:
			f.Kept[table]++
		case codeOf(err) == sqlite3.SQLITE_CONSTRAINT:
			f.Lost = true
		default:
			return err
		}
	}
	f.Lost = f.Lost || rows.Err() != nil
	return nil
}

func (f Salvaged) String() string {
	if f.Aside == "" {
		return "the records are whole"
	}
	rest := ""
	if f.Lost {
		rest = "; the rest could not be read"
	}
	return fmt.Sprintf("kept the records of %d sessions, %d launches and %d ends%s; the damaged file is %s",
		f.Kept["sessions"], f.Kept["batches"], f.Kept["ends"], rest, f.Aside)
}
