// Package audit is the server's record of who asked for what: sessions created and ended, workers launched and stopped, logins,
// tokens made and revoked; when, from where, and what came of it. It is a file of JSON lines in the state folder, which is only
// appended to, so that it can be read with any tool, and goes on when the database does not. Standard library only; package app
// imports it.
//
// What may be secret never comes here: no token, no environment, no code, no argument.
package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Actions.
const (
	CreateSession = "create session"
	EndSession    = "end session"
	Launch        = "launch workers"
	Stop          = "stop workers"
	Restart       = "restart workers"
	Login         = "log in"
	CreateToken   = "create token"
	RevokeToken   = "revoke token"
)

// Entry is one line. Empty fields are left out.
type Entry struct {
	At      time.Time `json:"at"`
	Action  string    `json:"action"`
	User    string    `json:"user"`              // who: a user of the machine, or "owner"
	UID     int       `json:"uid"`               // -1: it is not known
	Token   string    `json:"token,omitempty"`   // the id of the token by which, if people made one
	By      string    `json:"by,omitempty"`      // the session whose code asked
	From    string    `json:"from"`              // "unix", or an address
	Session string    `json:"session,omitempty"` // that it is about
	Engines []string  `json:"engines,omitempty"` // the same; the first few
	About   string    `json:"about,omitempty"`   // a token's id and name, a project's folder, how many workers
	Result  string    `json:"result"`            // "ok", or the kind of the error
}

const (
	fileName = "audit.jsonl"
	// maxFile and maxOld bound what is kept: some hundred thousand lines.
	maxFile = 16 << 20
	maxOld  = 8
	// maxText is for texts of others, such as an error's.
	maxText    = 500
	maxEngines = 20
)

// Log is the open file. Its methods are safe for concurrent use.
type Log struct {
	dir string

	mu   sync.Mutex
	file *os.File
	size int64
	max  int64
}

// Open opens the log in a folder, to append to it.
func Open(dir string) (*Log, error) {
	l := &Log{dir: dir, max: maxFile}
	return l, l.open()
}

func (l *Log) path(old int) string {
	if old == 0 {
		return filepath.Join(l.dir, fileName)
	}
	return filepath.Join(l.dir, fmt.Sprintf("audit.%d.jsonl", old))
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path(0), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		var last [1]byte
		if _, err = f.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' { // a crash has torn it
			_, err = f.Write([]byte("\n"))
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Add appends a line. It is the kernel's when this returns.
func (l *Log) Add(e Entry) error {
	e.At = e.At.UTC()
	e.About = cut(e.About)
	if len(e.Engines) > maxEngines {
		e.Engines = e.Engines[:maxEngines]
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(line)) > l.max {
		if err := l.turn(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return err
}

// turn begins a new file and forgets the oldest.
func (l *Log) turn() error {
	for old := maxOld; old > 0; old-- {
		if err := os.Rename(l.path(old-1), l.path(old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	before := l.file
	if err := l.open(); err != nil {
		return err
	}
	return before.Close()
}

func cut(s string) string {
	if len(s) > maxText {
		return string(bytes.ToValidUTF8([]byte(s[:maxText]), nil)) + "…"
	}
	return s
}

// Each calls do for every entry since a time, oldest first, until do returns an error. Lines that are no entries, such as one that
// a crash has torn, are passed over.
func (l *Log) Each(since time.Time, do func(Entry) error) error {
	for old := maxOld; old >= 0; old-- {
		if err := each(l.path(old), since, do); err != nil {
			return err
		}
	}
	return nil
}

func each(path string, since time.Time, do func(Entry) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.At.Before(since) {
			continue
		}
		if err := do(e); err != nil {
			return err
		}
	}
	return lines.Err()
}
