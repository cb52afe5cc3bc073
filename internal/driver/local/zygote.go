package local

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"muster/engine"
	"muster/internal/driver"
)

// zygote is what a crew knows of the one from which its engines are forked:
//
//	wanted ─► being made ─► ready ─► lost, or what it has read is another thing now: wanted again
//	              │  └─ killed: lost                └─ lost for the third time in five minutes: never
//	              └─ failed, or declined: never
//
// An engine that is forked is prepared like one that waits, in namespaces that its zygote may enter.
type zygote struct {
	making chan struct{} // closed when it is over: nobody is started for this crew meanwhile; nil: none is being made
	slot   *slot         // ready; nil: there is none
	never  bool
	lost   []time.Time // when one was that had been ready, or was killed before
	stale  []time.Time // when one was dropped because files had changed
}

// lossesCount is how long a loss is held against zygotes: who keeps losing them is better off without. Whose files have changed mostStale
// times meanwhile has none for as long: something writes there all the time.
const (
	lossesCount = 5 * time.Minute
	mostStale   = 10
)

// recent leaves of times those that count.
func recent(times []time.Time) []time.Time {
	return slices.DeleteFunc(times, func(at time.Time) bool { return time.Since(at) > lossesCount })
}

// zygoteWithin bounds how long modules may take to be imported, forkWithin how long until a fork waits for work.
const (
	zygoteWithin = time.Minute
	forkWithin   = 15 * time.Second
)

// childrenBytes is memory that a zygote's children may take of its own: what each copies before it is in its own control group counts
// there as long as it lives, which is 0.25 MB (Python 3.11). So there is room for a thousand.
const childrenBytes = 256 << 20

// canFork reports whether engines of this session can be forked: those that have namespaces.
func (s *session) canFork() bool { return s.hub != nil && s.driver.rung != Plain }

// Zygote implements driver.Warmer.
func (s *session) Zygote(kind driver.Kind) <-chan struct{} {
	s.mu.Lock()
	c := s.crews[kind]
	wanted := c != nil && !s.released && !s.detached && c.fail < maxFailures
	never := !s.canFork() || c != nil && c.zygote.never
	s.mu.Unlock()
	switch {
	case never:
		over := make(chan struct{})
		close(over)
		return over
	case !wanted || scarce():
		return nil
	}
	return s.beginZygote(kind, c)
}

// beginZygote begins to make the zygote of a crew that is to have one and has none; the others go on meanwhile. What it returns is closed when
// that is over; nil: none is being made.
func (s *session) beginZygote(kind driver.Kind, c *crew) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := &c.zygote
	if own := s.forkerLocked(kind); own != nil && own != c {
		return nil // it forks for this one, too
	}
	if z.stale = recent(z.stale); z.making != nil || z.slot != nil || z.never || !s.canFork() || len(z.stale) >= mostStale {
		return z.making
	}
	spec := c.spec(driver.Seat{ID: engine.NewID(), Address: netip.AddrFrom4([4]byte{127, 0, 0, 1})})
	if spec.Work == nil || spec.Work.Fork == nil {
		return nil
	}
	z.making = make(chan struct{})
	go func() {
		made, err := s.makeZygote(kind, spec)
		s.mu.Lock()
		defer s.mu.Unlock()
		close(z.making)
		z.making = nil
		switch {
		case errors.Is(err, errDropped): // another one is wanted
		case errors.Is(err, errKilled):
			z.loseLocked()
		case err != nil:
			z.never = true
		case s.crews[kind] != c: // nobody wants it any more
			made.dropped = true
			go s.drop(made.id)
		case s.slots[made.id] == made:
			z.slot = made
		default: // it ended as soon as it was ready
			z.loseLocked()
		}
		s.fillSoon()
	}()
	return z.making
}

// zygoteOf returns the zygote for a kind; nil if there is none, or none any more that has what one would have that is made now.
func (s *session) zygoteOf(kind driver.Kind, of driver.Spec) *slot {
	s.mu.Lock()
	var z *slot
	if c := s.forkerLocked(kind); c != nil {
		z = c.zygote.slot
	}
	s.mu.Unlock()
	if z == nil {
		return nil
	}
	now := s.find(context.Background(), readsOf(of), s.engineSpec(of))
	if now == nil { // nobody knows
		return nil
	}
	if !slices.Equal(now.reads, z.found.reads) {
		s.dropOthers(z)
		return nil
	}
	return z
}

// makeZygote makes one, and returns when it is ready.
func (s *session) makeZygote(kind driver.Kind, spec driver.Spec) (*slot, error) {
	spec.Hostname = string(spec.ID)
	spec.Argv = spec.Work.Fork
	spec.Resources.CPU = 1 // who waits for a fork may have work
	spec.Resources.MemoryBytes += childrenBytes
	z := newSlot(kind)
	z.zygote = true
	if err := s.prepare(context.Background(), spec, z, nil); err != nil {
		return nil, err
	}
	late := time.NewTimer(zygoteWithin)
	defer late.Stop()
	select {
	case <-z.ready:
	case <-z.gone:
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case z.dropped:
			return nil, errDropped
		case z.signal != 0:
			return nil, errKilled
		}
		return nil, errors.New("it ended")
	case <-s.lost:
		return nil, errEnded
	case <-late.C:
		s.drop(spec.ID)
		return nil, errors.New("it was not ready in time")
	}
	if z.found == nil {
		s.drop(spec.ID)
		return nil, errors.New("nobody knows what it has read")
	}
	return z, nil
}

// bereavedLocked notes that a zygote is gone. The caller holds mu.
func (s *session) bereavedLocked(z *slot) {
	c := s.crews[z.kind]
	if c == nil || c.zygote.slot != z {
		return
	}
	c.zygote.slot = nil
	if z.dropped {
		return
	}
	c.zygote.loseLocked()
}

// loseLocked counts a loss. The caller holds the session's mu.
func (z *zygote) loseLocked() {
	z.lost = append(recent(z.lost), time.Now())
	z.never = len(z.lost) >= maxFailures
}

// A zygote that was dropped while it was made knows something that is another thing now; where one was killed, the next one may come through.
var (
	errDropped = errors.New("it was dropped")
	errKilled  = errors.New("it was killed")
)

// disown ends a zygote that did not fork as it should: it counts as lost.
func (s *session) disown(z *slot) {
	s.mu.Lock()
	s.bereavedLocked(z)
	s.mu.Unlock()
	go s.drop(z.id) // the caller may be who hears the answer
}

// Forks implements driver.Warmer.
func (s *session) Forks(kind driver.Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forkerLocked(kind) != nil
}

// forkerLocked returns the crew whose zygote forks engines of a kind: its own, or one that differs in threads alone, as long as it is
// not known that those are declined; nil if there is none. The caller holds mu.
func (s *session) forkerLocked(kind driver.Kind) *crew {
	own := s.crews[kind]
	switch {
	case own != nil && own.zygote.slot != nil:
		return own
	case own != nil && own.zygote.never:
		return nil
	}
	for k, c := range s.crews {
		if z := c.zygote.slot; z != nil && !z.apart && k.Takes(kind, true) {
			return c
		}
	}
	return nil
}

// bequeathLocked gives the zygote of a kind that nobody wants any more to another one for which it forks. The caller holds mu.
func (s *session) bequeathLocked(kind driver.Kind) {
	c := s.crews[kind]
	if c == nil || c.zygote.slot == nil || c.zygote.slot.apart {
		return
	}
	for k, heir := range s.crews {
		if z := &heir.zygote; k != kind && kind.Takes(k, true) && z.slot == nil && z.making == nil && !z.never {
			z.slot, c.zygote.slot = c.zygote.slot, nil
			z.slot.kind = k
			return
		}
	}
}

// fork starts an engine by a zygote of its kind. With false there is none, or it cannot, and one has to be started with the work.
func (s *session) fork(ctx context.Context, spec driver.Spec) (given bool, err error) {
	if spec.Work == nil || spec.Work.Kind == (driver.Kind{}) {
		return false, nil
	}
	s.mu.Lock()
	var parent *slot
	var specOf func(driver.Seat) driver.Spec
	if c := s.forkerLocked(spec.Work.Kind); c != nil {
		parent, specOf = c.zygote.slot, c.spec
	}
	s.mu.Unlock()
	slot := newSlot(spec.Work.Kind)
	slot.taken, slot.address = true, spec.Address
	if parent == nil || !s.fitting(spec, slot) {
		return false, nil
	}
	first := specOf(driver.Seat{ID: spec.ID, Address: spec.Address})
	first.Resources = spec.Resources
	if err := s.prepare(ctx, first, slot, parent); err != nil {
		s.disown(parent)
		s.inNetwork(func() error { // whose address is to be another attempt's
			s.hub.Detach(spec.Address)
			return nil
		})
		return false, nil
	}
	late := time.NewTimer(forkWithin)
	defer late.Stop()
	select {
	case <-slot.ready:
		return s.give(ctx, spec, slot)
	case <-slot.gone:
	case <-s.lost:
	case <-ctx.Done():
		s.mu.Lock()
		slot.dropped = true
		s.mu.Unlock()
		s.drop(spec.ID)
		s.awaitGone(slot)
	case <-late.C:
		s.drop(spec.ID)
		s.awaitGone(slot)
	}
	if err := ctx.Err(); err != nil {
		return true, failedAt("start", err)
	}
	return false, nil
}
