package console

import "os"

// backwardStep is how many entries of the order are read at a time.
const backwardStep = 4096

// Backward calls do for the records of a session from the newest to the oldest, but for those of engines that want refuses,
// until do returns false. What is torn at the end is left out; an entry that is damaged is left out too.
func (r *Reader) Backward(want func(engine string) bool, do func(Record) bool) error {
	return backward(r.dir, func(entry []byte) bool {
		id, offset, length, ok := parseEntry(entry)
		if !ok || !want(string(id)) {
			return true
		}
		rec, ok := readRecord(r.dir, string(id), offset, length)
		return !ok || do(rec)
	})
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
