package console

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// reserveStep is how much room for entries is taken from the disk at a time.
const reserveStep = 16 << 10

// order is the writing side of the order file, the one thing that appending engines share.
type order struct {
	mu       sync.Mutex
	f        *os.File
	end      int64 // whole entries end here
	reserved int64 // the disk has promised room up to here
	promised int64 // entries whose records are being written
	trim     bool  // there is a part of an entry beyond end that could not be cut off
	dirty    atomic.Bool
	buf      []byte
}

// reserve promises room for n entries before their records are written, so that a full disk is met while nothing has
// happened yet. Each reserve is followed by one commit or release.
func (o *order) reserve(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f == nil {
		return errClosed
	}
	need := o.end + (o.promised+int64(n))*entrySize
	if need > o.reserved {
		upTo := (need + reserveStep - 1) / reserveStep * reserveStep
		const keepSize = 1 // FALLOC_FL_KEEP_SIZE: readers see whole entries only
		err := ignoringEINTR(func() error {
			return syscall.Fallocate(int(o.f.Fd()), keepSize, o.end, upTo-o.end)
		})
		switch err {
		case nil:
			o.reserved = upTo
		case syscall.EOPNOTSUPP, syscall.ENOSYS: // then commit meets the full disk, and the record is taken back
		default:
			return &os.PathError{Op: "reserve", Path: o.f.Name(), Err: err}
		}
	}
	o.promised += int64(n)
	return nil
}

func (o *order) release(n int) {
	o.mu.Lock()
	o.promised -= int64(n)
	o.mu.Unlock()
}

// commit writes the entries of records that are on the disk, all or none.
func (o *order) commit(entries []entry) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.promised -= int64(len(entries))
	if o.f == nil {
		return errClosed
	}
	if o.trim {
		if err := o.f.Truncate(o.end); err != nil {
			return err
		}
		o.trim = false
	}
	o.buf = o.buf[:0]
	for _, e := range entries {
		o.buf = e.appendTo(o.buf)
	}
	o.dirty.Store(true)
	if _, err := o.f.WriteAt(o.buf, o.end); err != nil {
		o.trim = o.f.Truncate(o.end) != nil
		o.reserved = o.end // cutting gave the room back
		return err
	}
	o.end += int64(len(o.buf))
	return nil
}

func (o *order) sync() error {
	if !o.dirty.Swap(false) {
		return nil
	}
	err := fdatasync(o.f)
	if err != nil {
		o.dirty.Store(true)
	}
	return err
}

// close gives back reserved room that was not used.
func (o *order) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f == nil {
		return nil
	}
	o.f.Truncate(o.end) // at worst a few kB stay reserved
	err := o.f.Close()
	o.f = nil
	return err
}
