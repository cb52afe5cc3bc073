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
//	wanted ─► being made ─► ready ─► it, or what it has read, is another one now: wanted again, maxFailures times
//	              └─ failed, or declined: never
//
// An engine that is forked is prepared like one that waits, in namespaces that its zygote may enter.
type zygote struct {
	slot  *slot // ready; nil: there is none
	never bool
	lost  int // how often one was lost that had been ready
}

// zygoteWithin bounds how long modules may take to be imported.
const zygoteWithin = time.Minute

// canFork reports whether engines of this session can be forked: those that have namespaces.
func (s *session) canFork() bool { return s.hub != nil && s.driver.rung != Plain }

// zygoteOf returns the zygote of a crew that is to have one, which is made if need be; nil: engines are started without.
func (s *session) zygoteOf(kind string, c *crew, of driver.Spec) (*slot, error) {
	if of.Work == nil || of.Work.Fork == nil || !s.canFork() {
		return nil, nil
	}
	s.mu.Lock()
	z, never := c.zygote.slot, c.zygote.never
	s.mu.Unlock()
	if z != nil {
		if now := s.find(context.Background(), readsOf(of), s.engineSpec(of)); now != nil && z.found != nil && slices.Equal(now.reads, z.found.reads) {
			return z, nil
		}
		s.dropOthers(z)
	}
	if never {
		return nil, nil
	}
	z, err := s.makeZygote(kind, of)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.crews[kind] != c:
		if z != nil {
			z.dropped = true
			go s.drop(z.id)
		}
		return nil, errors.New("nobody waits for it any more")
	case err != nil:
		c.zygote.never = true
		return nil, nil
	}
	select {
	case <-z.gone:
		return nil, nil
	default:
	}
	c.zygote.slot = z
	return z, nil
}

// makeZygote makes one, and returns when it is ready.
func (s *session) makeZygote(kind string, of driver.Spec) (*slot, error) {
	spec := of
	spec.ID = engine.NewID()
	spec.Hostname, spec.Address = string(spec.ID), netip.AddrFrom4([4]byte{127, 0, 0, 1})
	spec.Argv = of.Work.Fork
	spec.Resources.CPU = 1 // who waits for a fork may have work
	z := newSlot(kind)
	z.zygote = true
	if err := s.prepare(context.Background(), spec, z, nil); err != nil {
		return nil, err
	}
	select {
	case <-z.ready:
		return z, nil
	case <-z.gone:
		return nil, errors.New("it ended")
	case <-s.lost:
		return nil, errEnded
	case <-time.After(zygoteWithin):
		s.drop(spec.ID)
		return nil, errors.New("it was not ready in time")
	}
}

// bereavedLocked notes that a zygote is gone. The caller holds mu.
func (s *session) bereavedLocked(z *slot) {
	c := s.crews[z.kind]
	if c == nil || c.zygote.slot != z {
		return
	}
	c.zygote.slot = nil
	if c.zygote.lost++; c.zygote.lost >= maxFailures && !z.dropped {
		c.zygote.never = true
	}
}

// disinherit has a crew's engines started from now on: its zygote cannot have any.
func (s *session) disinherit(c *crew, z *slot) {
	s.mu.Lock()
	c.zygote.slot, c.zygote.never = nil, true
	z.dropped = true
	s.mu.Unlock()
	s.drop(z.id)
}

// Forks implements driver.Warmer.
func (s *session) Forks(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.crews[kind]
	return c != nil && c.zygote.slot != nil
}

// fork starts an engine by its kind's zygote. With false there is none, or it cannot, and one has to be started with the work.
func (s *session) fork(ctx context.Context, spec driver.Spec) (given bool, err error) {
	if spec.Work == nil || spec.Work.Kind == "" {
		return false, nil
	}
	s.mu.Lock()
	c := s.crews[spec.Work.Kind]
	var parent *slot
	if c != nil {
		parent = c.zygote.slot
	}
	s.mu.Unlock()
	slot := newSlot(spec.Work.Kind)
	slot.taken, slot.address = true, spec.Address
	if parent == nil || !s.fitting(spec, slot) {
		return false, nil
	}
	first := c.spec(driver.Seat{ID: spec.ID, Address: spec.Address})
	first.Resources = spec.Resources
	if err := s.prepare(ctx, first, slot, parent); err != nil {
		s.inNetwork(func() error { // whose address is to be another attempt's
			s.hub.Detach(spec.Address)
			return nil
		})
		return false, nil
	}
	select {
	case <-slot.ready:
		return s.give(ctx, spec, slot)
	case <-slot.gone:
	case <-s.lost:
	case <-ctx.Done():
		s.drop(spec.ID)
		s.awaitGone(slot)
		return true, failedAt("start", ctx.Err())
	}
	return false, nil
}
