package console

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// engineState is what repair knows of one engine's log.
type engineState struct {
	size int64
	end  int64 // where its ordered records end
	last int64 // index of its last order entry
	from int64 // offset of that entry's record
}

// repair makes the folder whole again and returns where the order ends. The order is trusted up to its first entry that
// is damaged, out of sequence or without its record; from there on the records themselves are read, and put in order
// by their times. After a crash of the writer that is the one record each engine was appending; after a loss of power
// it may be more.
func repair(dir string, f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	engines, err := listEngines(dir)
	if err != nil {
		return 0, err
	}
	entries := info.Size() / entrySize
	for {
		if entries, err = readOrder(f, entries, engines); err != nil {
			return 0, err
		}
		first, err := firstLost(dir, entries, engines)
		if err != nil {
			return 0, err
		}
		if first == entries {
			break
		}
		entries = first
	}
	var unordered []entry
	var times []int64
	for _, id := range slices.Sorted(maps.Keys(engines)) {
		if unordered, times, err = cutTorn(dir, id, engines[id], unordered, times); err != nil {
			return 0, err
		}
	}
	return extendOrder(f, entries, byTime(unordered, times))
}

func listEngines(dir string) (map[string]*engineState, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	engines := map[string]*engineState{}
	for _, file := range files {
		id, isLog := strings.CutSuffix(file.Name(), logSuffix)
		if !isLog || !ValidID(id) || !file.Type().IsRegular() {
			continue
		}
		info, err := file.Info()
		if err != nil {
			return nil, err
		}
		engines[id] = &engineState{size: info.Size()}
	}
	return engines, nil
}

// readOrder reads at most n entries into the engines' states and returns how many of them can be trusted.
func readOrder(f *os.File, n int64, engines map[string]*engineState) (int64, error) {
	for _, e := range engines {
		e.end, e.last, e.from = 0, -1, 0
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, n*entrySize), 64<<10)
	var b [entrySize]byte
	for i := int64(0); i < n; i++ {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return 0, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		id, offset, length, ok := parseEntry(b[:])
		e := engines[string(id)]
		if !ok || e == nil || offset != e.end || offset+int64(length) > e.size {
			return i, nil
		}
		e.end, e.last, e.from = offset+int64(length), i, offset
	}
	return n, nil
}

// firstLost returns the index of the first entry that is some engine's last and whose record is not whole, else n.
func firstLost(dir string, n int64, engines map[string]*engineState) (int64, error) {
	first := n
	for id, e := range engines {
		if e.last < 0 {
			continue
		}
		f, err := os.Open(enginePath(dir, id))
		if err != nil {
			return 0, err
		}
		rec := make([]byte, e.end-e.from)
		_, err = f.ReadAt(rec, e.from)
		f.Close()
		if err != nil {
			return 0, err
		}
		if h, ok := parseHeader(rec); !ok || HeaderSize+h.length != len(rec) || !wholeRecord(rec) {
			first = min(first, e.last)
		}
	}
	return first, nil
}

// cutTorn reads the records beyond the ordered ones, collects them and cuts off what follows the last whole one.
func cutTorn(dir, id string, e *engineState, unordered []entry, times []int64) ([]entry, []int64, error) {
	if e.end == e.size {
		return unordered, times, nil
	}
	f, err := os.OpenFile(enginePath(dir, id), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	c := &engineCursor{id: id, off: e.end, win: window{path: f.Name(), f: f}}
	latest := int64(math.MinInt64)
	for {
		at := c.off
		rec, err := c.read()
		if err != nil { // the end, torn or damaged; should the disk itself not read, cutting would be wrong
			if err != io.EOF && !isDamaged(err) {
				return nil, nil, err
			}
			break
		}
		unordered = append(unordered, entry{id, at, int(c.off - at)})
		latest = max(latest, rec.Time.UnixNano()) // a clock that was set back must not turn one engine's records around
		times = append(times, latest)
	}
	return unordered, times, f.Truncate(c.off)
}

// byTime sorts entries by their times.
func byTime(entries []entry, times []int64) []entry {
	index := make([]int, len(entries))
	for i := range index {
		index[i] = i
	}
	slices.SortStableFunc(index, func(a, b int) int { return cmp.Compare(times[a], times[b]) })
	sorted := make([]entry, len(entries))
	for i, j := range index {
		sorted[i] = entries[j]
	}
	return sorted
}

// extendOrder cuts the order after n entries and adds more.
func extendOrder(f *os.File, n int64, more []entry) (int64, error) {
	end := n * entrySize
	if err := f.Truncate(end); err != nil {
		return 0, err
	}
	var b []byte
	for len(more) > 0 {
		k := min(len(more), 1024)
		b = b[:0]
		for _, e := range more[:k] {
			b = e.appendTo(b)
		}
		if _, err := f.WriteAt(b, end); err != nil {
			return 0, err
		}
		end += int64(len(b))
		more = more[k:]
	}
	return end, nil
}
