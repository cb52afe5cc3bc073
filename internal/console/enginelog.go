package console

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// EngineLog appends to the log of one engine. Every append is all or nothing: after an error the log is as if the call
// had never been made, and the same append may simply be tried again, which neither loses nor doubles a byte.
//
// There are two writes, the record and then its order entry, and so three ways to be between them. The entry fails: the
// record is cut off again. That fails too: trim is set, and the next append begins by cutting. A crash: the record is
// whole and what it holds is gone from the pipe it came from, so that OpenWriter keeps it and adds the entry.
type EngineLog struct {
	w  *Writer
	id string

	syncing sync.Mutex // the file stays open while it is held; taken before the writer's lock, and that before mu

	mu      sync.Mutex
	f       *os.File
	end     int64 // ordered records end here
	trim    bool  // there is something beyond end that could not be cut off
	dirty   atomic.Bool
	split   []byte // Append's room for one record
	entries []entry
}

// Append appends payload, cut into records of MaxPayload bytes if it is larger. An empty payload is a record too.
func (l *EngineLog) Append(stream Stream, flags uint8, t time.Time, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest, first := payload, true
	next := func() []byte {
		if len(rest) == 0 && !first {
			return nil
		}
		n := min(len(rest), MaxPayload)
		l.split = append(append(l.split[:0], make([]byte, HeaderSize)...), rest[:n]...)
		rest, first = rest[n:], false
		sealRecord(l.split, stream, flags, t)
		return l.split
	}
	return l.append(stream, (len(payload)+MaxPayload-1)/MaxPayload, next)
}

// AppendBuffer appends buf[HeaderSize:], at most MaxPayload bytes, as one record without copying it: the header is
// filled in at the front of buf, whose first HeaderSize bytes are the caller's to waste.
func (l *EngineLog) AppendBuffer(stream Stream, flags uint8, t time.Time, buf []byte) error {
	if len(buf) < HeaderSize || len(buf) > maxRecord {
		return fmt.Errorf("console record of %d bytes: it must have %d to %d, header included", len(buf), HeaderSize, maxRecord)
	}
	sealRecord(buf, stream, flags, t)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(stream, 1, func() []byte {
		rec := buf
		buf = nil
		return rec
	})
}

// append writes the records that next gives until it gives nil, about n of them, and then their entries.
func (l *EngineLog) append(stream Stream, n int, next func() []byte) error {
	if !stream.valid() {
		return fmt.Errorf("append to the console log of engine %s: %s is no stream", l.id, stream)
	}
	if l.f == nil {
		return errClosed
	}
	if err := l.write(max(n, 1), next); err != nil {
		return fmt.Errorf("append to the console log of engine %s: %w", l.id, err)
	}
	return nil
}

func (l *EngineLog) write(n int, next func() []byte) error {
	if l.trim {
		if err := l.f.Truncate(l.end); err != nil {
			return err
		}
		l.trim = false
	}
	if err := l.w.order.reserve(n); err != nil {
		return err
	}
	l.dirty.Store(true)
	at := l.end
	l.entries = l.entries[:0]
	for rec := next(); rec != nil; rec = next() {
		if _, err := l.f.WriteAt(rec, at); err != nil {
			l.takeBack()
			l.w.order.release(n)
			return err
		}
		l.entries = append(l.entries, entry{l.id, at, len(rec)})
		at += int64(len(rec))
	}
	if err := l.w.order.commit(l.entries); err != nil {
		l.takeBack()
		return err
	}
	l.end = at
	return nil
}

func (l *EngineLog) takeBack() { l.trim = l.f.Truncate(l.end) != nil }

// Close gives up the file, when the engine has ended; Writer.Log opens it again.
func (l *EngineLog) Close() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	if l.trim {
		l.takeBack()
	}
	delete(l.w.logs, l.id)
	if dirty := l.dirty.Load(); dirty || l.trim {
		l.w.ended[l.id] = endedLog{dirty: dirty, trim: l.trim, end: l.end}
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// sync runs beside appends: they need not wait for the disk. What a closed log leaves to do is in Writer.ended.
func (l *EngineLog) sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	f := l.f
	l.mu.Unlock()
	if f == nil || !l.dirty.Swap(false) {
		return nil
	}
	err := fdatasync(f)
	if err != nil {
		l.dirty.Store(true)
	}
	return err
}
