package console

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// sessionCursor reads the records of all engines as the order file says.
type sessionCursor struct {
	dir   string
	off   int64
	order window
	logs  openLogs
	mem   []byte           // for records that are large, when the caller has no room for them
	gaps  map[string]bool  // engines whose last records could not be read, which was told; "": of the order
	ends  map[string]int64 // where the logs end as far as the order knows; nil: was not needed yet
	ended bool             // nothing is appended any more
}

const orderWindow = 1024 * entrySize

func (c *sessionCursor) close() error { return errors.Join(c.order.close(), c.logs.close()) }

func (c *sessionCursor) next(buf []byte) (Record, Position, error) {
	for {
		rec, engine, err := c.try(buf)
		if err != nil && isDamaged(err) && c.stale() {
			c.forget()
			rec, engine, err = c.try(buf)
		}
		if err != nil && !isDamaged(err) {
			c.forget()
			return Record{}, "", err
		}
		c.off += entrySize
		if err == nil {
			delete(c.gaps, engine)
			delete(c.gaps, "")
			return rec, sessionPosition(c.off), nil
		}
		if c.gaps[engine] {
			continue
		}
		if c.gaps == nil {
			c.gaps = map[string]bool{}
		}
		c.gaps[engine] = true
		return Record{}, sessionPosition(c.off), err
	}
}

// stale reports whether the entry at off is another one in the file than in memory: what a cursor holds may be from an append
// that failed and has been made anew since.
func (c *sessionCursor) stale() bool {
	held, err := c.order.at(c.off, entrySize)
	var now [entrySize]byte
	if err == nil {
		_, err = c.order.f.ReadAt(now[:], c.off)
	}
	return err != nil || !bytes.Equal(held, now[:])
}

func (c *sessionCursor) last(ended bool) error {
	c.ended = ended
	return nil
}

// missing is asked where the order ends.
func (c *sessionCursor) missing(began bool) error {
	if !began || !c.ended && c.off > 0 {
		return nil
	}
	engines, err := listEngines(c.dir)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case c.off > 0:
		return c.short(engines)
	case len(engines) == 0:
		return &DamagedError{File: c.dir, Missing: 1}
	}
	return &DamagedError{File: c.order.path, Missing: 1, Do: readEngines}
}

// short is the error for an order that does not tell of the last records of a log. One such record is no damage: a writer that was
// killed leaves it.
func (c *sessionCursor) short(engines map[string]*engineState) error {
	ends, err := orderedEnds(c.dir, "")
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(engines)) {
		if engines[id].size <= ends[id] {
			continue
		}
		log := &engineCursor{id: id, off: ends[id], win: window{path: enginePath(c.dir, id)}}
		_, err := log.read()
		if err == nil {
			_, err = log.read()
		}
		log.close()
		if err == nil {
			return &DamagedError{File: c.order.path, Offset: c.off, What: "it ends before the last records of " + id, Do: readEngines}
		}
	}
	return nil
}

// forget drops what is held of the order. Engines' logs need not be read again at every end: an entry comes after its
// record. What a window holds beyond the records of the entries seen is checked, and dropped by try, when they come.
func (c *sessionCursor) forget() { c.order.forget() }

// try returns the record at off, and whose it is also if it cannot be read; "" if that is not known.
func (c *sessionCursor) try(buf []byte) (Record, string, error) {
	if there, err := c.order.open(orderWindow); !there {
		return Record{}, "", err
	}
	b, err := c.order.at(c.off, entrySize)
	if err != nil {
		return Record{}, "", err
	}
	id, offset, length, ok := parseEntry(b)
	if !ok {
		err := c.order.damagedUnlessZero(c.off, "this is no order entry")
		if err != io.EOF {
			err = c.order.damagedUnlessLast(c.off, entrySize, "this is no order entry")
		}
		if damaged, is := errors.AsType[*DamagedError](err); is {
			damaged.Do = readEngines
		}
		return Record{}, "", err
	}
	if cap(buf) < length {
		if c.mem == nil && length > logWindow {
			c.mem = make([]byte, maxRecord)
		}
		buf = c.mem
	}
	engine, rec, err := c.logs.read(id, offset, length, buf)
	if err != nil {
		return Record{}, string(id), c.lost(string(id), err)
	}
	h, _ := parseHeader(rec)
	return h.record(engine, rec), engine, nil
}

// lost is the error for an entry whose record is not there as the order says. The last entry is one that is just being taken back
// with its record, unless nobody writes any more.
func (c *sessionCursor) lost(engine string, err error) error {
	damaged, is := errors.AsType[*DamagedError](err)
	if !is {
		return err
	}
	if !c.ended && c.order.damagedUnlessLast(c.off, entrySize, "") == io.EOF {
		return io.EOF
	}
	if damaged.Missing == 0 || c.gaps[engine] {
		return err
	}
	if c.ends == nil {
		if c.ends, err = orderedEnds(c.dir, ""); err != nil {
			return err
		}
	}
	damaged.Missing = max(1, c.ends[engine]-damaged.Offset)
	return damaged
}

// openLogs are the engine logs that a session cursor has open: the few that it read last, however many there are.
type openLogs struct {
	dir   string
	open  map[string]*openLog
	clock int64
}

type openLog struct {
	id   string
	win  window
	used int64
}

const (
	maxOpenLogs = 32
	logWindow   = 32 << 10
)

// read returns the whole record at offset, checked. It lies in buf or in a window; buf has room if it needs more than
// a window.
func (l *openLogs) read(id []byte, offset int64, length int, buf []byte) (string, []byte, error) {
	log, err := l.get(id)
	if err != nil {
		return "", nil, err
	}
	for range 2 { // the second time from the file: the window may be older than the record
		var rec []byte
		if length > logWindow {
			rec = buf[:length]
			_, err = log.win.f.ReadAt(rec, offset)
		} else {
			rec, err = log.win.at(offset, length)
		}
		if err != nil && err != io.EOF {
			return "", nil, err
		}
		if err == nil {
			if h, ok := parseHeader(rec); ok && HeaderSize+h.length == length && wholeRecord(rec) {
				return log.id, rec, nil
			}
		}
		log.win.forget()
	}
	damaged := &DamagedError{File: log.win.path, Offset: offset, What: "the record's checksum is wrong"}
	if err == io.EOF {
		info, err := log.win.f.Stat()
		if err != nil {
			return "", nil, err
		}
		damaged.Offset, damaged.Missing = info.Size(), 1 // at least
	}
	return "", nil, damaged
}

// get returns the engine's log, opened. A file that does not exist is damage: it has an order entry.
func (l *openLogs) get(id []byte) (*openLog, error) {
	l.clock++
	if log := l.open[string(id)]; log != nil {
		log.used = l.clock
		return log, nil
	}
	log := &openLog{id: string(id), used: l.clock}
	log.win.path = enginePath(l.dir, log.id)
	if len(l.open) >= maxOpenLogs {
		log.win.buf = l.evict()
	}
	if _, err := log.win.open(logWindow); err != nil {
		if err == io.EOF {
			return nil, &DamagedError{File: log.win.path, Missing: 1}
		}
		return nil, err
	}
	if l.open == nil {
		l.open = map[string]*openLog{}
	}
	l.open[log.id] = log
	return log, nil
}

// evict closes the log that was not read for the longest time and returns its window's memory.
func (l *openLogs) evict() []byte {
	var oldest *openLog
	for _, log := range l.open {
		if oldest == nil || log.used < oldest.used {
			oldest = log
		}
	}
	delete(l.open, oldest.id)
	buf := oldest.win.buf
	oldest.win.close()
	return buf
}

func (l *openLogs) close() error {
	var errs []error
	for _, log := range l.open {
		errs = append(errs, log.win.close())
	}
	l.open = nil
	return errors.Join(errs...)
}
