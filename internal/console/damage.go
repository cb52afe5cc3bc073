package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DamagedError says where a console's files are not as they were written.
type DamagedError struct {
	File    string
	Offset  int64
	What    string
	Missing int64  // if above 0: the file ends at Offset, and so many bytes more were written to it
	Do      string // what whoever reads can do, "" for nothing
}

func (e *DamagedError) Error() string {
	text := fmt.Sprintf("console file %s is damaged at byte %d: %s", e.File, e.Offset, e.What)
	engine, isLog := strings.CutSuffix(filepath.Base(e.File), logSuffix)
	switch {
	case e.Missing > 0 && e.Offset > 0:
		text = fmt.Sprintf("the log of %s ends at byte %d, %d bytes are missing: %s", engine, e.Offset, e.Missing, e.File)
	case e.Missing > 0 && isLog:
		text = fmt.Sprintf("the output of %s is not there any more: %s", engine, e.File)
	case e.Missing > 0 && engine == orderName:
		text = fmt.Sprintf("the order of the session's output is not there any more: %s", e.File)
	case e.Missing > 0:
		text = fmt.Sprintf("the session's output is not there any more: %s", e.File)
	}
	if e.Do != "" {
		text += "; " + e.Do
	}
	return text
}

// What can be done where a file is damaged: records are found in it by the order, and in the order's stead by the file itself.
const (
	readSession = "the session's console (muster logs SESSION) shows what else of it can be read"
	readEngines = "each engine's own log (muster logs WORKER) shows what it printed"
)

// typeDamaged is the type of the event that tells readers of a damage.
const typeDamaged = "damaged"

// damageEvent is its payload.
type damageEvent struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// record tells of the damage where it is, among the records that can be read.
func (e *DamagedError) record() Record {
	id, isLog := strings.CutSuffix(filepath.Base(e.File), logSuffix)
	if !isLog {
		id = ""
	}
	payload, _ := json.Marshal(damageEvent{typeDamaged, e.Error()}) // strings only
	return Record{Engine: id, Stream: Event, Time: time.Now().UTC(), Payload: payload}
}

// Damage returns what a record tells of damage: such a one is among those of Follow where others could not be read.
func Damage(r Record) (message string, is bool) {
	var d damageEvent
	if r.Stream != Event || json.Unmarshal(r.Payload, &d) != nil || d.Type != typeDamaged {
		return "", false
	}
	return d.Message, true
}

func isDamaged(err error) bool {
	_, damaged := errors.AsType[*DamagedError](err)
	return damaged
}

// cutShort is the error for a log that does not reach as far as the order knows, want; it can be read up to off.
func (w *window) cutShort(off, want int64) error {
	info, err := os.Stat(w.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &DamagedError{File: w.path, Missing: want}
	case err != nil:
		return err
	case info.Size() >= want:
		return &DamagedError{File: w.path, Offset: off, What: "the record is not whole", Do: readSession}
	}
	return &DamagedError{File: w.path, Offset: info.Size(), Missing: want - info.Size()}
}

// orderedEnds returns where the logs end as far as the order knows: that of one engine, or all if only is "".
func orderedEnds(dir, only string) (map[string]int64, error) {
	ends := map[string]int64{}
	err := backward(dir, func(b []byte) bool {
		if only != "" && strings.TrimRight(string(b[:maxID]), "\x00") != only { // before the checksum is reckoned
			return true
		}
		if id, offset, length, ok := parseEntry(b); ok {
			ends[string(id)] = max(ends[string(id)], offset+int64(length))
			return only == ""
		}
		return true
	})
	return ends, err
}

// backward calls do for the entries of the order from the newest to the oldest until it returns false.
func backward(dir string, do func(entry []byte) bool) error {
	order, err := os.Open(orderPath(dir))
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
	buf := make([]byte, min(backwardStep*entrySize, info.Size()))
	for end := info.Size() / entrySize; end > 0; {
		n := min(end, backwardStep)
		end -= n
		part := buf[:n*entrySize]
		if m, err := order.ReadAt(part, end*entrySize); err == io.EOF {
			part = part[:m-m%entrySize] // it was cut meanwhile
		} else if err != nil {
			return fmt.Errorf("read the console: %w", err)
		}
		for ; len(part) > 0; part = part[:len(part)-entrySize] {
			if !do(part[len(part)-entrySize:]) {
				return nil
			}
		}
	}
	return nil
}
