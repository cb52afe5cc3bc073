package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Reader reads a console folder, beside the writer and in any process. It holds nothing open itself; each Cursor does.
type Reader struct{ dir string }

// Open returns a reader of the folder, which need not exist yet: until it does, reading is at the end.
func Open(dir string) (*Reader, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open the console: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("open the console: %s is not a folder", dir)
	}
	return &Reader{dir}, nil
}

// Session returns a cursor over the records of all engines, in the order in which they happened.
func (r *Reader) Session(from Position) (*Cursor, error) {
	off, err := from.inSession()
	if err != nil {
		return nil, err
	}
	path := orderPath(r.dir)
	if err := notBeyond(path, off, from); err != nil {
		return nil, err
	}
	return &Cursor{src: &sessionCursor{dir: r.dir, off: off, order: window{path: path}, logs: openLogs{dir: r.dir}}}, nil
}

// Engine returns a cursor over one engine's records. It reads that engine's file alone.
func (r *Reader) Engine(id string, from Position) (*Cursor, error) {
	if !ValidID(id) {
		return nil, fmt.Errorf("invalid engine id %q: use 1 to %d letters, digits, - and _", id, maxID)
	}
	off, err := from.inEngine(id)
	if err != nil {
		return nil, err
	}
	path := enginePath(r.dir, id)
	if err := notBeyond(path, off, from); err != nil {
		return nil, err
	}
	return &Cursor{src: &engineCursor{dir: r.dir, id: id, off: off, win: window{path: path}}}, nil
}

func notBeyond(path string, off int64, from Position) error {
	if off == 0 {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the console: %w", err)
	}
	if err != nil || off > info.Size() {
		return fmt.Errorf("%w %q: it lies beyond the end of %s", ErrPosition, string(from), path)
	}
	return nil
}

// Cursor reads records one after the other. It is not for several goroutines at once.
type Cursor struct {
	src   source
	began bool
}

type source interface {
	next(buf []byte) (Record, Position, error)
	last(ended bool) error
	missing(began bool) error
	close() error
}

// Next returns the next record and the position to go on from after it. The payload is valid until the next call; it may
// lie in buf, which saves memory where HeaderSize+MaxPayload bytes are at hand, and may be nil.
//
// io.EOF means that there is nothing more at the moment, or that what there is is not complete: call again when the
// bell has rung. A damaged record that others follow is a *DamagedError: with a position where reading goes on behind it, as in
// a session, whose order tells where the next record is; such a gap is told once, however many records it has.
func (c *Cursor) Next(buf []byte) (Record, Position, error) {
	if c.src == nil {
		return Record{}, "", errClosed
	}
	return c.src.next(buf)
}

// Began says that engines have written here and do not any more: that nothing at all is there is then damage too.
func (c *Cursor) Began() { c.began = true }

// last is called before what is read is read to its end for the last time, ended if nothing is appended any more; missing
// after that: it returns a *DamagedError if what was written before last is not there.
func (c *Cursor) last(ended bool) error {
	if c.src == nil {
		return errClosed
	}
	return c.src.last(ended)
}

func (c *Cursor) missing() error {
	if c.src == nil {
		return errClosed
	}
	return c.src.missing(c.began)
}

// Close gives up the cursor's files and memory.
func (c *Cursor) Close() error {
	if c.src == nil {
		return nil
	}
	err := c.src.close()
	c.src = nil
	return err
}

// twice tries again, with forget in between, when something looks damaged: what a cursor holds in memory may be from an
// append that failed and has been made anew since.
func twice(try func() (Record, error), forget func()) (Record, error) {
	rec, err := try()
	if err != nil && isDamaged(err) {
		forget()
		rec, err = try()
	}
	if err != nil {
		forget()
	}
	return rec, err
}

// engineCursor reads one engine's log.
type engineCursor struct {
	dir  string
	id   string
	off  int64
	win  window
	want int64 // the log is at least so long
}

const engineWindow = 4 * maxRecord

func (c *engineCursor) close() error { return c.win.close() }

func (c *engineCursor) next([]byte) (Record, Position, error) {
	rec, err := c.read()
	if err != nil {
		return Record{}, "", err
	}
	return rec, enginePosition(c.id, c.off), nil
}

// last looks up how long the log is at least: a record is there before its entry in the order.
func (c *engineCursor) last(bool) error {
	ends, err := orderedEnds(c.dir, c.id)
	c.want = ends[c.id]
	return err
}

func (c *engineCursor) missing(began bool) error {
	if began && c.off == 0 {
		c.want = max(c.want, 1)
	}
	if c.off >= c.want {
		return nil
	}
	return c.win.cutShort(c.off, c.want)
}

func (c *engineCursor) read() (Record, error) { return twice(c.try, c.win.forget) }

func (c *engineCursor) try() (Record, error) {
	if there, err := c.win.open(engineWindow); !there {
		return Record{}, err
	}
	head, err := c.win.at(c.off, HeaderSize)
	if err != nil {
		return Record{}, err
	}
	h, ok := parseHeader(head)
	if !ok {
		return Record{}, c.win.damagedUnlessZero(c.off, "this is no record header")
	}
	b, err := c.win.at(c.off, HeaderSize+h.length)
	if err != nil {
		return Record{}, err
	}
	if !wholeRecord(b) {
		return Record{}, c.win.damagedUnlessLast(c.off, len(b), "the record's checksum is wrong")
	}
	c.off += int64(len(b))
	return h.record(c.id, b), nil
}

func (h header) record(engine string, b []byte) Record {
	return Record{Engine: engine, Stream: h.stream, Flags: h.flags, Time: time.Unix(0, h.nanos).UTC(),
		Payload: b[HeaderSize : HeaderSize+h.length : HeaderSize+h.length]}
}
