package local

import (
	"bytes"
	"context"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"muster/engine"
	"muster/internal/driver"
)

// crew are the engines of a kind that are to wait.
type crew struct {
	want   int
	spec   func(driver.Seat) driver.Spec
	fail   int // in a row
	zygote zygote
}

// How many engines wait at most. One that was started has all its interpreter's memory for itself, a forked one hardly any: a plain Python
// 2.3 MB with its init and what the kernel has of it, one with numpy and pandas 6 (measured on Linux 6.18).
const (
	mostStarted = 16
	mostForked  = 128
	forkedBytes = 6 << 20
	forkedShare = 32 // of the machine's memory may wait

	addressShare = 8 // of the session's addresses may be theirs
)

// size is how many of a crew are to wait now, forked or started, on a machine with so much memory, in a session with so many addresses.
func (c *crew) size(forked bool, memory int64, addresses int) int {
	most := mostStarted
	if forked {
		most = max(mostStarted, min(mostForked, int(memory/forkedShare/forkedBytes)))
	}
	return min(c.want, most, max(1, addresses/addressShare))
}

// addresses are how many the session has for its engines.
func (s *session) addresses() int {
	if s.hub == nil {
		return math.MaxInt
	}
	return 1 << (32 - s.hub.Prefix().Bits())
}

// machineMemory is in bytes; 0: nobody knows.
var machineMemory = sync.OnceValue(func() int64 {
	text, _ := os.ReadFile("/proc/meminfo")
	return kilobytes(text, "MemTotal:") << 10
})

// maxFailures is how often starting an engine ahead may fail before nobody tries it again: those that are started with their work
// will say what is wrong.
const maxFailures = 3

// Warm implements driver.Warmer.
func (s *session) Warm(kind driver.Kind, n int, spec func(driver.Seat) driver.Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released || s.detached {
		return
	}
	if n == 0 {
		s.bequeathLocked(kind)
		delete(s.crews, kind)
		s.fillSoon()
		s.dropSurplus(kind, 0)
		return
	}
	c := s.crews[kind]
	if c == nil {
		c = &crew{}
		s.crews[kind] = c
	}
	c.want, c.spec = n, spec
	s.dropSurplus(kind, n)
	if s.fill == nil {
		s.fill = make(chan struct{}, 1)
		go s.filling(s.fill)
	}
	s.fillSoon()
}

// dropSurplus ends those of a kind that wait beyond the first n, the youngest, and with 0 their zygote, too. The caller holds mu.
func (s *session) dropSurplus(kind driver.Kind, n int) {
	type one struct {
		id   engine.ID
		slot *slot
	}
	var waiting []one
	for id, slot := range s.slots {
		if slot.kind == kind && !slot.taken && !slot.dropped && !(slot.zygote && n > 0) {
			waiting = append(waiting, one{id, slot})
		}
	}
	if len(waiting) <= n {
		return
	}
	slices.SortFunc(waiting, func(a, b one) int { // one that does not wait yet is younger than all that do
		switch first, second := a.slot.since.IsZero(), b.slot.since.IsZero(); {
		case first && !second:
			return 1
		case second && !first:
			return -1
		}
		return a.slot.since.Compare(b.slot.since)
	})
	for _, w := range waiting[n:] {
		w.slot.dropped = true
		go s.drop(w.id)
	}
}

// fillSoon wakes who makes up for what crews lack. The caller holds mu.
func (s *session) fillSoon() {
	if s.fill == nil {
		return
	}
	select {
	case s.fill <- struct{}{}:
	default: // it will look anyway
	}
}

// A launch has the machine for itself before others are started in the place of those that it took: that takes more than the work's way
// to its first line. It is over when nothing was given work, or has ended, for restFor, and a millisecond for each engine that it took, or,
// whatever goes on, ten of them: a session that launches all the time needs those that wait, too.
const (
	restFor    = 30 * time.Millisecond
	restEach   = time.Millisecond
	launchEach = 10 * time.Millisecond
)

// stirs is what has lately happened to engines of a session. Guarded by session.mu.
type stirs struct {
	taken int // since the last time that all was quiet
	last  time.Time
	ended time.Time // when the last engine that had work did
}

// stirLocked notes that n engines were taken or are started, or, with 0, that one has begun its work or ended. The caller holds mu.
func (s *session) stirLocked(n int) {
	now := time.Now()
	if now.Sub(s.stirs.last) > restFor+time.Duration(s.stirs.taken)*restEach {
		s.stirs.taken = 0
	}
	s.stirs.taken += n
	s.stirs.last = now
}

// rest is how long who waits for launches to be over, since he began, has to wait; 0 or less: not any more.
func (s stirs) rest(began, now time.Time) time.Duration {
	taken := time.Duration(s.taken)
	return min(s.last.Add(restFor+taken*restEach).Sub(now), began.Add(restFor+taken*launchEach).Sub(now))
}

// calm returns when launches have had their time. With false the session is over.
func (s *session) calm() bool {
	began := time.Now()
	for {
		s.mu.Lock()
		wait := s.stirs.rest(began, time.Now())
		if wait <= 0 {
			s.stirs.taken = 0
		}
		s.mu.Unlock()
		if wait <= 0 {
			return true
		}
		select {
		case <-time.After(wait):
		case <-s.lost:
			return false
		}
	}
}

// filling makes up for what crews lack, one engine after the other: who waits for work has time.
func (s *session) filling(woken <-chan struct{}) {
	for s.calm() {
		kind, c, over := s.lacking()
		if over {
			return
		}
		if c == nil {
			select {
			case <-woken:
				continue
			case <-s.lost:
				return
			}
		}
		if s.beginZygote(kind, c) != nil {
			continue
		}
		if err := s.seat(kind, c); err != nil {
			s.mu.Lock()
			c.fail++
			s.mu.Unlock()
		}
	}
}

// lacking returns a crew that lacks somebody, nil if none does; and that there is none any more, of which the next Warm is to know.
func (s *session) lacking() (kind driver.Kind, c *crew, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released || s.detached || len(s.crews) == 0 {
		s.fill = nil
		return driver.Kind{}, nil, true
	}
	if scarce() {
		return driver.Kind{}, nil, false // until the next launch
	}
	has := map[driver.Kind]int{}
	for _, slot := range s.slots {
		if !slot.taken && !slot.dropped && !slot.zygote {
			has[slot.kind]++
		}
	}
	for kind, c := range s.crews {
		if has[kind] < c.size(s.forkerLocked(kind) != nil, machineMemory(), s.addresses()) && c.fail < maxFailures && c.zygote.making == nil {
			return kind, c, false
		}
	}
	return driver.Kind{}, nil, false
}

// sparedShare of the machine's memory is for those that have work: when less than that is available, nobody is started ahead.
const sparedShare = 8

// scarce reports whether memory is. Engines that wait already stay: the next launch is for one of them, or they end by and by.
func scarce() bool {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return false
	}
	total, available := kilobytes(text, "MemTotal:"), kilobytes(text, "MemAvailable:")
	return available > 0 && available < total/sparedShare
}

// kilobytes is the value of a line of /proc/meminfo; 0 if there is none.
func kilobytes(text []byte, name string) (n int64) {
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[0]) == name {
			n, _ = strconv.ParseInt(string(f[1]), 10, 64)
		}
	}
	return n
}

// seat starts an engine ahead.
func (s *session) seat(kind driver.Kind, c *crew) error {
	addrs, err := s.Reserve(1)
	if err != nil {
		return err
	}
	s.mu.Lock()
	specOf := c.spec
	s.mu.Unlock()
	spec := specOf(driver.Seat{ID: engine.NewID(), Address: addrs[0]})
	parent := s.zygoteOf(kind, spec)
	slot := newSlot(kind)
	err = s.prepare(context.Background(), spec, slot, parent)
	if err != nil {
		s.Release(addrs...)
		if parent != nil {
			s.disown(parent)
			return nil
		}
		return err
	}
	s.mu.Lock()
	want := 0 // nobody wants it any more
	if now := s.crews[kind]; now != nil {
		want = now.want // fewer than before, maybe
	}
	s.dropSurplus(kind, want)
	early := slot.dropped // while it was made, of which the keeper may have known nothing yet
	s.mu.Unlock()
	if early {
		s.drop(spec.ID)
	}
	return nil
}
