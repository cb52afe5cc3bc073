package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// What is on disk, read without the product's code, as the comment of internal/console/format.go says it is.

const (
	recordHead = 24
	entryBytes = 32
)

var crc32c = crc32.MakeTable(crc32.Castagnoli)

// record is a piece of what an engine printed, or of what happened to it.
type record struct {
	engine  string
	stream  string
	offset  int64 // in the engine's log
	payload []byte
}

var streams = map[byte]string{1: "stdout", 2: "stderr", 3: "stdin", 4: "event", 5: "display"}

// logFile reads the log of one engine record by record.
type logFile struct {
	engine string
	file   *os.File
	at     int64
}

var errTorn = errors.New("a record is not complete")

// next returns the record at the present place. errTorn: the rest of the file is no record.
func (l *logFile) next() (record, error) {
	head := make([]byte, recordHead)
	if _, err := l.file.ReadAt(head, l.at); err != nil {
		return record{}, errTorn
	}
	le := binary.LittleEndian
	if le.Uint32(head[20:]) != crc32.Checksum(head[4:20], crc32c) {
		return record{}, fmt.Errorf("the head of a record at %d has not its checksum", l.at)
	}
	rec := make([]byte, recordHead+int(le.Uint32(head[4:])))
	if _, err := l.file.ReadAt(rec, l.at); err != nil {
		return record{}, errTorn
	}
	stream, known := streams[rec[16]]
	switch {
	case le.Uint32(rec) != crc32.Checksum(rec[4:], crc32c):
		return record{}, fmt.Errorf("the record at %d has not its checksum", l.at)
	case !known || rec[18] != 1 || rec[19] != 0:
		return record{}, fmt.Errorf("the record at %d is of stream %d, version %d", l.at, rec[16], rec[18])
	}
	r := record{engine: l.engine, stream: stream, offset: l.at, payload: rec[recordHead:]}
	l.at += int64(len(rec))
	return r, nil
}

// readConsole hands every record of a console to each, in the order of the order file. Every record of every log must be in the order
// exactly once; only a console whose writer was killed (torn) may have more at the ends of its files.
func readConsole(dir string, torn bool, each func(record) error) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		return err
	}
	logs := map[string]*logFile{}
	defer func() {
		for _, l := range logs {
			l.file.Close()
		}
	}()
	for at := 0; at+entryBytes <= len(order); at += entryBytes {
		e := order[at : at+entryBytes]
		if binary.LittleEndian.Uint32(e[28:]) != crc32.Checksum(e[:28], crc32c) {
			if torn && at+entryBytes == len(order) {
				break
			}
			return fmt.Errorf("entry %d of the order has not its checksum", at/entryBytes)
		}
		if err := readEntry(dir, logs, e, each); err != nil {
			return fmt.Errorf("entry %d of the order: %w", at/entryBytes, err)
		}
	}
	if len(order)%entryBytes != 0 && !torn {
		return fmt.Errorf("the order ends with %d bytes of an entry", len(order)%entryBytes)
	}
	return wholeLogs(dir, logs, torn)
}

func readEntry(dir string, logs map[string]*logFile, e []byte, each func(record) error) error {
	n := 0
	for n < 16 && e[n] != 0 {
		n++
	}
	id, offset, length := string(e[:n]), int64(binary.LittleEndian.Uint64(e[16:])), int64(binary.LittleEndian.Uint32(e[24:]))
	l := logs[id]
	if l == nil {
		f, err := os.Open(filepath.Join(dir, id+".log"))
		if err != nil {
			return err
		}
		l = &logFile{engine: id, file: f}
		logs[id] = l
	}
	if offset != l.at {
		return fmt.Errorf("it is at %d of the log of %s, where the last one ended at %d", offset, id, l.at)
	}
	r, err := l.next()
	if err != nil {
		return fmt.Errorf("log of %s: %w", id, err)
	}
	if l.at-offset != length {
		return fmt.Errorf("%d bytes, and the record at %d of the log of %s has %d", length, offset, id, l.at-offset)
	}
	return each(r)
}

// wholeLogs makes sure that nothing is in the logs that is not in the order.
func wholeLogs(dir string, logs map[string]*logFile, torn bool) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return err
		}
		id, end := filepath.Base(f[:len(f)-len(".log")]), int64(0)
		if l := logs[id]; l != nil {
			end = l.at
		}
		if info.Size() != end && !torn {
			return fmt.Errorf("the log of %s has %d bytes, and the order leads to %d", id, info.Size(), end)
		}
	}
	return nil
}
