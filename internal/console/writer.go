package console

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

const (
	orderName = "order"
	logSuffix = ".log"
)

func orderPath(dir string) string          { return filepath.Join(dir, orderName) }
func enginePath(dir, engine string) string { return filepath.Join(dir, engine+logSuffix) }

// errClosed is what a closed Writer or EngineLog says.
var errClosed = fmt.Errorf("console log: %w", os.ErrClosed)

// Writer is the one writer of a console folder. Its methods and those of its EngineLogs may be called at the same time.
type Writer struct {
	dir   string
	order order

	syncing sync.Mutex // one Sync or Close at a time; taken before mu

	mu     sync.Mutex
	logs   map[string]*EngineLog
	ended  map[string]endedLog // closed logs that something is still to be done for
	closed bool
}

// endedLog is what a closed engine log has left to do.
type endedLog struct {
	dirty bool  // not on the disk itself yet: for Sync
	trim  bool  // a failed append is still to be cut off: for Log
	end   int64 // ordered records end here
}

// OpenWriter makes the folder if need be and takes it for this process: a second Writer is refused. It first repairs
// what a crash has left: torn records and entries are cut off, and whole records without an entry get one.
func OpenWriter(dir string) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the console folder: %w", err)
	}
	f, err := os.OpenFile(orderPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("console %s has a writer already: close that one first", dir)
		}
		return nil, fmt.Errorf("lock console %s: %w", dir, err)
	}
	end, err := repair(dir, f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("repair console %s: %w", dir, err)
	}
	w := &Writer{dir: dir, logs: map[string]*EngineLog{}, ended: map[string]endedLog{}}
	w.order = order{f: f, end: end, reserved: end}
	return w, nil
}

// Log returns the log of an engine, made if it does not exist.
func (w *Writer) Log(engineID string) (*EngineLog, error) {
	if !ValidID(engineID) {
		return nil, fmt.Errorf("invalid engine id %q: use 1 to %d letters, digits, - and _", engineID, maxID)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, errClosed
	}
	if l := w.logs[engineID]; l != nil {
		return l, nil
	}
	f, err := os.OpenFile(enginePath(w.dir, engineID), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the console log of engine %s: %w", engineID, err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the console log of engine %s: %w", engineID, err)
	}
	l := &EngineLog{w: w, id: engineID, f: f, end: end}
	if old := w.ended[engineID]; old.trim {
		l.end, l.trim = old.end, true
	}
	l.dirty.Store(w.ended[engineID].dirty)
	delete(w.ended, engineID)
	w.logs[engineID] = l
	return l, nil
}

// Sync puts everything appended so far on the disk itself, for what must survive the machine. (A crash of processes
// alone loses nothing that was appended.)
func (w *Writer) Sync() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	closed, logs := w.closed, slices.Collect(maps.Values(w.logs))
	w.mu.Unlock()
	if closed {
		return errClosed
	}
	for _, l := range logs { // without the lock: launches need not wait for the disk
		if err := l.sync(); err != nil {
			return fmt.Errorf("sync the console log of engine %s: %w", l.id, err)
		}
	}
	if err := w.syncEnded(); err != nil {
		return err
	}
	if err := w.order.sync(); err != nil {
		return fmt.Errorf("sync the console order: %w", err)
	}
	return nil
}

func (w *Writer) syncEnded() error {
	w.mu.Lock()
	ended := maps.Clone(w.ended)
	w.mu.Unlock()
	for id, e := range ended {
		if !e.dirty {
			continue
		}
		f, err := os.Open(enginePath(w.dir, id))
		if err == nil {
			err = errors.Join(fdatasync(f), f.Close())
		}
		if err != nil {
			return fmt.Errorf("sync the console log of engine %s: %w", id, err)
		}
		w.mu.Lock()
		if now, is := w.ended[id]; is && now.end == e.end { // else it was opened again
			if now.dirty = false; now.trim {
				w.ended[id] = now
			} else {
				delete(w.ended, id) // nothing is left to do: a session may have a hundred thousand logs
			}
		}
		w.mu.Unlock()
	}
	return nil
}

// Close ends writing. It does not wait for the disk: call Sync first for that.
func (w *Writer) Close() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	logs := slices.Collect(maps.Values(w.logs))
	w.mu.Unlock()
	var errs []error
	for _, l := range logs {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, w.order.close())...)
}

func fdatasync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = c.Control(func(fd uintptr) { syncErr = ignoringEINTR(func() error { return syscall.Fdatasync(int(fd)) }) })
	return errors.Join(err, syncErr)
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
