package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// backwardStep is how many entries of the order are read at a time.
const backwardStep = 4096

// Backward calls do for the records of a session from the newest to the oldest, but for those of engines that want refuses,
// until do returns false. What is torn at the end is left out; an entry that is damaged is left out too.
func (r *Reader) Backward(want func(engine string) bool, do func(Record) bool) error {
	order, err := os.Open(orderPath(r.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the console: %w", err)
	}
	defer order.Close()
	info, err := order.Stat()
	if err != nil {
		return fmt.Errorf("read the console: %w", err)
	}
	buf := make([]byte, backwardStep*entrySize)
	for end := info.Size() / entrySize; end > 0; {
		n := min(end, backwardStep)
		end -= n
		part := buf[:n*entrySize]
		if _, err := order.ReadAt(part, end*entrySize); err != nil {
			return fmt.Errorf("read the console: %w", err)
		}
		for ; len(part) > 0; part = part[:len(part)-entrySize] {
			id, offset, length, ok := parseEntry(part[len(part)-entrySize:])
			if !ok || !want(string(id)) {
				continue
			}
			rec, ok := readRecord(r.dir, string(id), offset, length)
			if ok && !do(rec) {
				return nil
			}
		}
	}
	return nil
}

// readRecord reads one record; false if it is not there as the order says.
func readRecord(dir, id string, offset int64, length int) (Record, bool) {
	f, err := os.Open(enginePath(dir, id))
	if err != nil {
		return Record{}, false
	}
	defer f.Close()
	b := make([]byte, length)
	if _, err := f.ReadAt(b, offset); err != nil {
		return Record{}, false
	}
	h, ok := parseHeader(b)
	if !ok || HeaderSize+h.length != length || !wholeRecord(b) {
		return Record{}, false
	}
	return h.record(id, b), true
}
