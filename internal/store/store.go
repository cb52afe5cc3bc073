// Package store keeps the records that survive a restart of the server: which sessions there are, what they launched, and how
// it ended. One SQLite file in the state folder, which one server holds at a time.
//
// What is durable when. A kill of the server at any moment loses nothing that a method here has returned from: the write is
// the kernel's by then. A power cut may take the last second of it (SyncDelay): the engines that such records tell of are gone
// too. What must not be taken back by a power cut either (that a token was revoked) waits for the disk.
//
// What is secret (tokens, environments, code) comes here sealed: see Seal. A damaged file is recognised when it is opened
// and refused with the way out, which is Salvage.
//
// The manager and app import it; it looks at package engine only.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"muster/engine"
	"muster/internal/failpoint"
)

// FileName is the database's in the state folder.
const FileName = "muster.db"

// SyncDelay bounds what a power cut can take of the records, as of output.
const SyncDelay = time.Second

// Store is an open database. Methods are safe for concurrent use; each is one transaction.
type Store struct {
	path string
	db   *sql.DB // one connection: the file is this process's alone

	mu      sync.Mutex // also keeps durable's setting to its own transaction
	closed  bool
	syncing *time.Timer // nil: nothing was written since the last one
	begun   bool        // there was nothing in the file
	fail    func(step string) error
}

// Open opens the database in a state folder; it is made if there is none. Conflict if another server holds it, Unavailable
// if it is damaged or of a later release.
func Open(dir string) (*Store, error) { return OpenUnless(dir, nil) }

// OpenUnless is Open for who can tell whether records should be there. Where there is no file, or one that nothing was ever recorded
// in, it calls lost before it begins new records: an error is the answer then, and nothing was changed that could be looked into.
func OpenUnless(dir string, lost func(path string) error) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if lost == nil {
		lost = func(string) error { return nil }
	}
	err := finishSalvage(path)
	if err == nil && empty(path) {
		if err := lost(path); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(err, touch(path)); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the records in %s cannot be written: %w", path, err)
	}
	db, err := connect(path)
	if err != nil {
		return nil, refusal(path, err)
	}
	s := &Store{path: path, db: db}
	if err := s.prepare(lost); err != nil {
		db.Close()
		return nil, refusal(path, err)
	}
	return s, nil
}

// empty reports whether no byte of records is there.
func empty(path string) bool {
	info, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// touch makes the file, for the owner's eyes: SQLite's own mode depends on the umask. The files beside it get its mode.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func connect(path string) (*sql.DB, error) {
	// In exclusive mode the file's lock is held from the first read to the end of the process, and no shared memory is needed.
	db, err := sql.Open("sqlite", "file:"+escape(path)+"?_pragma=locking_mode(EXCLUSIVE)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"+
		"&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

// escape writes a path as SQLite's file: addresses want it.
func escape(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

// prepare looks whether the file is whole, and brings it to this release's form.
func (s *Store) prepare(lost func(path string) error) error {
	rows, err := s.db.Query("PRAGMA quick_check(1)")
	if err != nil {
		return err
	}
	var found string
	for rows.Next() {
		if err := rows.Scan(&found); err != nil {
			break
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if found != "ok" {
		return &damagedError{found}
	}
	if err := s.migrate(lost); err != nil {
		return err
	}
	return s.checkColumns()
}

// checkColumns finds damage in the names of tables and columns, of which SQLite's own check knows nothing.
func (s *Store) checkColumns() error {
	for _, from := range []string{
		"id, created, record, ended, secret FROM sessions", "session, number, record, secret FROM batches", "session, engine, record FROM ends",
		"id, hash, name, user, uid, created, expires, used FROM tokens",
	} {
		rows, err := s.db.Query("SELECT " + from + " LIMIT 0")
		if err == nil {
			err = rows.Close()
		}
		if err != nil && codeOf(err) == sqlite3.SQLITE_ERROR {
			return &damagedError{err.Error()}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// damagedError says what SQLite found wrong with the file.
type damagedError struct{ what string }

func (e *damagedError) Error() string { return e.what }

// refusal says why the database cannot be used, and the way out.
func refusal(path string, err error) error {
	var refused *engine.Error
	if errors.As(err, &refused) {
		return err
	}
	switch code := codeOf(err); {
	case code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED:
		return engine.Errorf(engine.Conflict, "the records in %s are in use by another server", path).
			WithHint("stop that one, or give this one a state folder of its own (MUSTER_STATE_DIR or --state-dir)")
	case damaged(err):
		return engine.Errorf(engine.Unavailable, "the records in %s are damaged: %w", path, err).
			WithHint("muster up --salvage keeps what can be read of them, and sets the damaged file aside; or restore the file from a backup")
	}
	return engine.Errorf(engine.Unavailable, "the records in %s cannot be used: %w", path, err)
}

func codeOf(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// Damaged reports whether an error says that the records are not what was written, and Salvage is the way out.
func Damaged(err error) bool { return damaged(err) }

// damaged reports whether an error says that the file is not what was written.
func damaged(err error) bool {
	var d *damagedError
	code := codeOf(err)
	return errors.As(err, &d) || code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// Close writes everything through to the disk and gives the file up.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.syncing != nil {
		s.syncing.Stop()
	}
	return s.db.Close() // a checkpoint: the log beside the file is gone
}

// write does one transaction.
func (s *Store) write(what string, do func(*sql.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.writeLocked(do)
	if err != nil {
		return s.failed(what, err)
	}
	if s.syncing == nil {
		s.syncing = time.AfterFunc(SyncDelay, s.sync)
	}
	return nil
}

// durable does one transaction that a power cut does not take back.
func (s *Store) durable(what string, do func(*sql.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.failed(what, fs.ErrClosed)
	}
	if _, err := s.db.Exec("PRAGMA synchronous = FULL"); err != nil {
		return s.failed(what, err)
	}
	err := s.writeLocked(do)
	_, back := s.db.Exec("PRAGMA synchronous = NORMAL")
	if err := errors.Join(err, back); err != nil {
		return s.failed(what, err)
	}
	return nil
}

func (s *Store) writeLocked(do func(*sql.Tx) error) error {
	if s.closed {
		return fs.ErrClosed
	}
	if s.fail != nil {
		if err := s.fail("begin"); err != nil {
			return err
		}
	}
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if s.fail != nil {
		if err := s.fail("commit"); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	failpoint.Here("store: before commit")
	err = tx.Commit()
	failpoint.Here("store: after commit")
	return err
}

// sync asks the disk for what was written within the last SyncDelay.
func (s *Store) sync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncing = nil
	if s.closed {
		return
	}
	// One that fails is no news for anybody: the next write meets the same disk.
	s.db.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
}

// failed says what could not be written, and what to do where the disk is the reason.
func (s *Store) failed(what string, err error) error {
	e := engine.Errorf(engine.Unavailable, "%s cannot be recorded in %s: %w", what, s.path, err)
	switch codeOf(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return e.WithHint("make room in %s", filepath.Dir(s.path))
	case sqlite3.SQLITE_READONLY:
		return e.WithHint("make %s writable", filepath.Dir(s.path))
	}
	return e
}

// each calls do for every row of a query.
func (s *Store) each(what string, query string, args []any, do func(scan func(...any) error) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := s.db.Query(query, args...)
	if err != nil {
		return s.unread(what, err)
	}
	defer rows.Close()
	scan := func(into ...any) error {
		if err := rows.Scan(into...); err != nil {
			return &damagedError{"a record is not what was written: " + err.Error()}
		}
		return nil
	}
	for rows.Next() {
		if err := do(scan); err != nil {
			return s.unread(what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return s.unread(what, err)
	}
	return nil
}

func (s *Store) unread(what string, err error) error {
	if damaged(err) {
		return refusal(s.path, err)
	}
	return fmt.Errorf("read %s from %s: %w", what, s.path, err)
}
