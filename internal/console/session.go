package console

import (
	"errors"
	"io"
)

// sessionCursor reads the records of all engines as the order file says.
type sessionCursor struct {
	off   int64
	order window
	logs  openLogs
	mem   []byte // for records that are large, when the caller has no room for them
}

const orderWindow = 1024 * entrySize

func (c *sessionCursor) close() error { return errors.Join(c.order.close(), c.logs.close()) }

func (c *sessionCursor) next(buf []byte) (Record, Position, error) {
	try := func() (Record, error) { return c.try(buf) }
	rec, err := twice(try, c.forget)
	if err != nil {
		return Record{}, "", err
	}
	return rec, sessionPosition(c.off), nil
}

// forget drops what is held of the order. Engines' logs need not be read again at every end: an entry comes after its
// record. What a window holds beyond the records of the entries seen is checked, and dropped by try, when they come.
func (c *sessionCursor) forget() { c.order.forget() }

func (c *sessionCursor) try(buf []byte) (Record, error) {
	if there, err := c.order.open(orderWindow); !there {
		return Record{}, err
	}
	b, err := c.order.at(c.off, entrySize)
	if err != nil {
		return Record{}, err
	}
	id, offset, length, ok := parseEntry(b)
	if !ok {
		err := c.order.damagedUnlessZero(c.off, "this is no order entry")
		if err != io.EOF {
			err = c.order.damagedUnlessLast(c.off, entrySize, "this is no order entry")
		}
		return Record{}, err
	}
	if cap(buf) < length {
		if c.mem == nil && length > logWindow {
			c.mem = make([]byte, maxRecord)
		}
		buf = c.mem
	}
	engine, rec, err := c.logs.read(id, offset, length, buf)
	if err != nil && isDamaged(err) {
		if c.order.damagedUnlessLast(c.off, entrySize, "") == io.EOF {
			err = io.EOF
		}
	}
	if err != nil {
		return Record{}, err
	}
	h, _ := parseHeader(rec)
	c.off += entrySize
	return h.record(engine, rec), nil
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
	what := "the record's checksum is wrong"
	if err == io.EOF {
		what = "the file ends before the end of its last record"
	}
	return "", nil, &DamagedError{log.win.path, offset, what}
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
			return nil, &DamagedError{log.win.path, 0, "the file is missing"}
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
