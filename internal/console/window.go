package console

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// window is a part of a file, held in memory.
type window struct {
	path string
	f    *os.File
	buf  []byte
	off  int64 // what buf begins with
	n    int   // bytes of buf that are filled
}

// open opens the file, if that has not been done, for a window of size bytes. Without a file it returns false and io.EOF.
func (w *window) open(size int) (bool, error) {
	if w.f == nil {
		f, err := os.Open(w.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, io.EOF
		}
		if err != nil {
			return false, err
		}
		w.f = f
	}
	if w.buf == nil {
		w.buf = make([]byte, size)
	}
	return true, nil
}

// at returns the n bytes at off, n being at most the window's size, or io.EOF if the file does not reach that far.
// They are valid until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off < w.off || off-w.off > int64(w.n-n) {
		got, err := w.f.ReadAt(w.buf, off)
		if err != nil && err != io.EOF {
			w.forget()
			return nil, err
		}
		w.off, w.n = off, got
		if got < n {
			return nil, io.EOF
		}
	}
	start := int(off - w.off)
	return w.buf[start : start+n], nil
}

func (w *window) forget() { w.n = 0 }

func (w *window) close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f, w.buf, w.n = nil, nil, 0
	return err
}

// damagedUnlessLast is the error for n bytes at off whose checksum is wrong: io.EOF if the file ends with them, as it
// does after a loss of power and while they are written.
func (w *window) damagedUnlessLast(off int64, n int, what string) error {
	info, err := w.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() <= off+int64(n) {
		return io.EOF
	}
	return &DamagedError{File: w.path, Offset: off, What: what, Do: readSession}
}

// damagedUnlessZero is the error for something at off that does not even have a form: io.EOF if there are only zeros
// up to the end, no further than one record, as a loss of power may leave them.
func (w *window) damagedUnlessZero(off int64, what string) error {
	info, err := w.f.Stat()
	if err != nil {
		return err
	}
	damaged := &DamagedError{File: w.path, Offset: off, What: what, Do: readSession}
	n := info.Size() - off
	if n > min(maxRecord, int64(len(w.buf))) {
		return damaged
	}
	if n <= 0 {
		return io.EOF
	}
	b, err := w.at(off, int(n))
	if err != nil {
		return err
	}
	for _, c := range b {
		if c != 0 {
			return damaged
		}
	}
	return io.EOF
}
