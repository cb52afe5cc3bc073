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
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// maxLine is more than a line can have, with every character of a text escaped.
	maxLine = 1 << 18
)

// Log is the open file. Its methods are safe for concurrent use.
type Log struct {
	dir    string
	create func(path string) (*os.File, error)

	mu   sync.Mutex
	file io.WriteCloser
	size int64
	torn bool // the last line has no end: the disk was full, or a crash cut it off
	max  int64
}

// Open opens the log in a folder, to append to it. It writes nothing: a server starts on a full disk, too.
func Open(dir string) (*Log, error) {
	l := &Log{dir: dir, max: maxFile, create: func(path string) (*os.File, error) {
		return os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	}}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) path(old int) string {
	if old == 0 {
		return filepath.Join(l.dir, fileName)
	}
	return filepath.Join(l.dir, fmt.Sprintf("audit.%d.jsonl", old))
}

func (l *Log) open() error {
	f, err := l.create(l.path(0))
	if err != nil {
		return err
	}
	info, err := f.Stat()
	last := [1]byte{'\n'}
	if err == nil && info.Size() > 0 {
		_, err = f.ReadAt(last[:], info.Size()-1)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size, l.torn = f, info.Size(), last[0] != '\n'
	return nil
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Add appends a line. It is the kernel's when this returns. A line that could be written, only not to the file where it belongs, is
// an error too.
func (l *Log) Add(e Entry) error {
	e.At = e.At.UTC()
	e.About, e.Session = cut(e.About), cut(e.Session)
	e.Engines = slices.Clone(e.Engines[:min(len(e.Engines), maxEngines)])
	for i := range e.Engines {
		e.Engines[i] = cut(e.Engines[i])
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(line)) > l.max {
		err = l.turn()
	}
	if l.torn {
		line = append([]byte("\n"), line...)
	}
	n, writeErr := l.file.Write(line)
	l.size += int64(n)
	if n > 0 {
		l.torn = line[n-1] != '\n'
	}
	return errors.Join(err, writeErr)
}

// turn begins a new file and forgets the oldest. Where the new one could not be made the last time, the others have moved already.
func (l *Log) turn() error {
	if _, err := os.Lstat(l.path(0)); err == nil {
		for old := maxOld; old > 0; old-- {
			if err := os.Rename(l.path(old-1), l.path(old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
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
	files, err := l.files()
	for _, f := range files {
		defer f.Close()
	}
	for _, f := range files {
		if err == nil {
			err = each(f, since, do)
		}
	}
	return err
}

// files opens all there are, oldest first, while none turns into another.
func (l *Log) files() (all []*os.File, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for old := maxOld; old >= 0; old-- {
		f, err := os.Open(l.path(old))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, err
		}
		all = append(all, f)
	}
	return all, nil
}

func each(f io.Reader, since time.Time, do func(Entry) error) error {
	lines := bufio.NewReaderSize(f, maxLine)
	for long := false; ; {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		var e Entry
		if err == nil && !long && json.Unmarshal(line, &e) == nil && !e.At.Before(since) {
			if err := do(e); err != nil {
				return err
			}
		}
		long = err != nil // the rest of that line is no line either
	}
}
