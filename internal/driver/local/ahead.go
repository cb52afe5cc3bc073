package local

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/sandbox"
)

// slot is an engine that was started ahead of its work. It has all that an engine has, under the id that it will have as one:
//
//	being made ─► ready ─► taken ─► given: an engine like any
//	     └──────────┴────────┴─ ended, or dropped ─► gone
type slot struct {
	member
	id      engine.ID
	group   *cgroup.Group     // nil: there are none
	limits  cgroup.Limits     // that it has
	ssh     bool              // there is an SSH server
	files   map[string][]byte // those that it has
	spec    wire.EngineSpec   // what was said of it for good
	found   *found            // what was there before it was made; nil: nobody knows
	reads   []string          // of which it knows that
	look    *look             // what is there now that it is taken
	mounts  sandbox.Mounts    // watched since before it was made, until it is given or gone
	since   time.Time         // it is ready; zero: it is not yet
	apart   bool              // it takes, or forks for, its own kind alone
	zygote  bool              // it never has work, but forks others
	signal  int               // a zygote: what ended it; 0: it ended by itself, or who knows
	taken   bool
	dropped bool          // nobody wants it
	lost    bool          // it was gone when its work came
	ready   chan struct{} // closed when it is
	gone    chan struct{}
}

// close closes what this process has open for one that is not to be an engine any more.
func (slot *slot) close() {
	slot.closeInside()
	slot.mounts.Close()
}

func newSlot(kind driver.Kind) *slot {
	return &slot{member: member{kind: kind}, ready: make(chan struct{}), gone: make(chan struct{})}
}

// prepare has the keeper start an engine ahead, whose interpreter is forked by a parent, if there is one. All or nothing.
func (s *session) prepare(ctx context.Context, spec driver.Spec, slot *slot, parent *slot) (err error) {
	a := &attempt{spec: spec, wire: s.engineSpec(spec), slot: slot}
	a.request = wire.Request{Op: wire.OpPrepare, Engine: string(spec.ID)}
	a.wire.Ahead, a.wire.Zygote = true, slot.zygote
	if slot.mounts, err = s.mountsOfKeeper(); err != nil {
		return err
	}
	slot.parent = parent
	slot.reads = readsOf(spec)
	slot.found = s.find(ctx, slot.reads, a.wire) // before it is made: what is turned meanwhile is another thing then
	if parent != nil {
		a.request.Zygote, a.wire.Forked = string(parent.id), true
		if slot.found != nil && parent.found != nil {
			slot.found.reads = parent.found.reads // who read them is the parent
		}
	}
	if err := s.make(ctx, a); err != nil {
		slot.mounts.Close()
		return err
	}
	return nil
}

// seated notes that an engine waits for work.
func (s *session) seated(id engine.ID, apart bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot := s.slots[id]; slot != nil {
		slot.since, slot.apart = time.Now(), apart || slot.parent != nil && slot.parent.apart
		close(slot.ready)
		if c := s.crews[slot.kind]; c != nil && !slot.zygote {
			c.fail = 0
		}
	}
}

// unseated notes that one is gone. The address of one that was taken is still somebody's, who will start it anew.
func (s *session) unseated(id engine.ID, signal int) {
	s.mu.Lock()
	slot := s.slots[id]
	if slot != nil {
		slot.signal = signal
	}
	delete(s.slots, id)
	if slot != nil && slot.zygote {
		s.bereavedLocked(slot)
	}
	if slot != nil {
		slot.lost = true
		delete(s.engines, id) // its work was just to be given
		if c := s.crews[slot.kind]; c != nil && slot.since.IsZero() && !slot.dropped && !slot.zygote && slot.parent == nil {
			c.fail++ // it never came so far
		}
		s.fillSoon()
	}
	s.mu.Unlock()
	if slot == nil {
		return
	}
	if slot.parent != nil && slot.since.IsZero() && !slot.dropped {
		s.disown(slot.parent)
	}
	slot.close()
	if s.hub != nil && !slot.zygote {
		s.inNetwork(func() error {
			if slot.taken {
				s.hub.Detach(slot.address)
			} else {
				s.hub.Release(slot.address)
			}
			return nil
		})
	}
	close(slot.gone)
}

// emptySlots takes all of them, of a session whose keeper is gone.
func (s *session) emptySlots() map[engine.ID]*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.slots
	s.slots = map[engine.ID]*slot{}
	for _, slot := range all {
		slot.mounts.Close()
		close(slot.gone)
	}
	return all
}

// Take implements driver.Warmer.
func (s *session) Take(kind driver.Kind, n int) (seats []driver.Seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.crews[kind]
	never := c != nil && c.zygote.never // it says what no zygote can tell libraries: nor can another one's
	var waiting []engine.ID
	for id, slot := range s.slots {
		if slot.waits() && (kind == (driver.Kind{}) || slot.takes(kind) && (slot.kind == kind || !never)) {
			waiting = append(waiting, id)
		}
	}
	slices.SortFunc(waiting, func(a, b engine.ID) int {
		first, second := s.slots[a], s.slots[b]
		switch own := first.kind == kind; {
		case own == (second.kind == kind):
			return first.since.Compare(second.since)
		case own:
			return -1
		}
		return 1
	})
	looks := map[driver.Kind]*look{}
	for _, id := range waiting[:min(n, len(waiting))] {
		slot := s.slots[id]
		if looks[slot.kind] == nil {
			looks[slot.kind] = s.beginLook(slot)
		}
		slot.taken, slot.look = true, looks[slot.kind]
		seats = append(seats, driver.Seat{ID: id, Address: slot.address})
	}
	s.stirLocked(len(seats))
	return seats
}

func (slot *slot) waits() bool {
	return !slot.taken && !slot.dropped && !slot.zygote && !slot.since.IsZero()
}

// takes reports whether it may be given work of a kind.
func (slot *slot) takes(kind driver.Kind) bool {
	return slot.kind == kind || !slot.apart && slot.kind.Takes(kind, slot.parent != nil)
}

// Waiting implements driver.Warmer.
func (s *session) Waiting(kind driver.Kind) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, slot := range s.slots {
		if slot.kind == kind && slot.waits() {
			n++
		}
	}
	return n
}

// dropSeats ends those that wait at one of these addresses, and returns the other addresses: theirs become free with their ends.
func (s *session) dropSeats(addrs []netip.Addr) (others []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := map[netip.Addr]engine.ID{}
	for id, slot := range s.slots {
		if slot.taken {
			taken[slot.address] = id
		}
	}
	for _, a := range addrs {
		id, there := taken[a]
		if !there {
			others = append(others, a)
			continue
		}
		s.slots[id].taken, s.slots[id].dropped = false, true
		go s.drop(id)
	}
	return others
}

// drop ends an engine that waits.
func (s *session) drop(id engine.ID) {
	s.request(context.Background(), wire.Request{Op: wire.OpDrop, Engine: string(id)}) // an error: it is gone
}

// awaitGone returns when an engine that waited is gone, or when this process hears nothing more of it.
func (s *session) awaitGone(slot *slot) {
	select {
	case <-slot.gone:
	case <-s.lost:
	}
}

// slotOf returns the engine that waits for the work of that id; nil if there is none.
func (s *session) slotOf(id engine.ID) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[id]
}

// give gives work to an engine that waits for it. With false it is gone, and one has to be started with the work.
func (s *session) give(ctx context.Context, spec driver.Spec, slot *slot) (given bool, err error) {
	whole := s.engineSpec(spec)
	if spec.Work != nil && !slot.takes(spec.Work.Kind) {
		whole.Work = nil
	}
	a := &attempt{spec: spec, wire: wire.EngineSpec{Argv: whole.Argv, Env: whole.Env, Files: whole.Files, Work: whole.Work}}
	a.request = wire.Request{Op: wire.OpGive, Engine: string(spec.ID), Give: &wire.Given{
		Name: whole.Name, Role: whole.Role, ShmBytes: whole.ShmBytes, MemoryLimit: whole.MemoryLimit, TimeLimit: whole.TimeLimit,
	}}
	if !s.fitting(spec, slot) {
		s.drop(spec.ID)
		s.awaitGone(slot)
		return false, nil
	}
	if !s.holds(ctx, spec, whole, slot) {
		s.dropOthers(slot)
		s.drop(spec.ID)
		s.awaitGone(slot)
		return false, nil
	}
	if err := s.changedFiles(ctx, a, slot); err != nil {
		return true, failedAt("ssh", err)
	}
	if slot.group != nil {
		if err := slot.group.Change(slot.limits, s.driver.limits(spec)); err != nil {
			s.drop(spec.ID) // it may be larger than the limit already
			s.awaitGone(slot)
			return false, nil
		}
	}
	if err := s.young(a); err != nil {
		return true, err
	}
	f, err := s.specFile(a)
	if err != nil {
		return true, err
	}
	defer f.Close()
	handed(a)
	s.mu.Lock()
	if s.slots[spec.ID] != slot {
		s.mu.Unlock()
		s.awaitGone(slot)
		return false, nil
	}
	s.engines[spec.ID] = slot.member // what is observed of it may come before the answer
	s.mu.Unlock()
	failpoint.Here("driver: before give")
	_, err = s.request(context.WithoutCancel(ctx), a.request, f)
	failpoint.Here("driver: after give")
	s.mu.Lock()
	_, there := s.engines[spec.ID]
	if err == nil {
		delete(s.slots, spec.ID)
		slot.mounts.Close()
		s.stirLocked(0)
		s.fillSoon()
	} else {
		delete(s.engines, spec.ID)
	}
	lost := slot.lost
	s.mu.Unlock()
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errEnded) && !there && !lost:
		return true, nil // its end with the keeper was observed
	case errors.Is(err, errEnded):
		return true, failedAt("keeper", err)
	}
	s.drop(spec.ID)
	s.awaitGone(slot)
	return false, nil
}

// handed says the work in the request, too, where it is small enough, and nobody has to read a file for it.
func handed(a *attempt) {
	w := a.wire.Work
	if w == nil || w.File != "" {
		return
	}
	size := len(w.Bytes)
	for name, content := range a.wire.Files {
		size += len(name) + len(content)
	}
	if size <= wire.MaxHanded {
		a.request.Give.Files, a.request.Give.Work = a.wire.Files, w.Bytes
	}
}

// changedFiles leaves of the engine's files those that it does not have yet.
func (s *session) changedFiles(ctx context.Context, a *attempt, slot *slot) error {
	g, err := s.sshGroup(ctx, a.wire.Env)
	if err != nil {
		return err
	}
	files := maps.Clone(a.wire.Files) // the caller's
	if g != nil {
		files = withFiles(files, g.Files(a.spec.Dir, a.wire.Env))
	}
	for name, content := range slot.files {
		if bytes.Equal(files[name], content) {
			delete(files, name)
		}
	}
	a.wire.Files = files
	return nil
}

// fitting reports whether an engine that waits can become what is asked for.
func (s *session) fitting(spec driver.Spec, slot *slot) bool {
	return slot.address == spec.Address && len(spec.GPUs) == 0 && len(spec.CPUSet) == 0 && spec.Terminal == nil && !spec.Stdin
}

var _ driver.Warmer = (*session)(nil)
