package local

import (
	"context"
	"reflect"
	"slices"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/openssh"
	"muster/internal/linux/rights"
	"muster/internal/linux/sandbox"
)

// found is what an engine that is started now would find. One that was started ahead found what was there then, and it cannot be told
// anew: where that is another thing, an engine is started that sees what is there, or fails with a sentence about it.
type found struct {
	host    []string // the host's own files and folders
	visible []string // where the engine's paths lead
	reads   []string // driver.Work.Reads
}

// sandbox reports whether sandboxes would be the same.
func (f *found) sandbox(other *found) bool {
	return slices.Equal(f.host, other.host) && slices.Equal(f.visible, other.visible)
}

// lookLimit is how long looking may take: a user's file system may hang.
const lookLimit = time.Second

// find looks; nil where it cannot. Reads are files that the interpreter reads when it starts.
func (s *session) find(ctx context.Context, reads []string, w wire.EngineSpec) *found {
	f := &found{host: sandbox.HostFiles()}
	for _, path := range openssh.HostFiles {
		f.host = append(f.host, sandbox.File(path))
	}
	for _, path := range slices.Concat(w.Hidden, w.ReadOnly) {
		f.host = append(f.host, sandbox.Place(path))
	}
	if w.Alias != "" {
		f.host = append(f.host, sandbox.File("/home")) // what is in it is mounted, each by itself
	}
	looked := s.lookAs(ctx, w, func() {
		for _, path := range w.Visible { // the first is the working directory
			f.visible = append(f.visible, sandbox.Place(path))
		}
		for _, path := range reads {
			f.reads = append(f.reads, sandbox.File(path))
		}
	})
	if !looked {
		return nil
	}
	return f
}

// look is one for all that a launch takes of a kind. It is begun when the launch comes: what is changed later may be changed after their start.
type look struct {
	at    wire.EngineSpec // seen
	reads []string
	begun time.Time
	done  chan struct{}
	found *found // when it is done
}

// lookLasts is how long after its begin a look is good, unless an engine of the session has ended since: who waited for room, or for the
// one before, may be to see what that has changed.
const lookLasts = 50 * time.Millisecond

// seen is what of an engine's spec says where to look.
func seen(w wire.EngineSpec) wire.EngineSpec {
	return wire.EngineSpec{
		Alias: w.Alias, UID: w.UID, GID: w.GID, Groups: w.Groups, Foreign: w.Foreign, Visible: w.Visible, Hidden: w.Hidden, ReadOnly: w.ReadOnly,
	}
}

// beginLook looks at what an engine that waits has found, while the launch that takes it goes on its way.
func (s *session) beginLook(slot *slot) *look {
	l := &look{at: seen(slot.spec), reads: slot.reads, begun: time.Now(), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.found = s.find(context.Background(), l.reads, l.at)
	}()
	return l
}

// looked returns what a look has found, or finds it where that is old, or was at something else.
func (s *session) looked(ctx context.Context, reads []string, w wire.EngineSpec, l *look) *found {
	if l != nil && slices.Equal(l.reads, reads) && reflect.DeepEqual(l.at, seen(w)) && s.fresh(l) {
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil
		}
		if l.found != nil {
			return l.found
		}
	}
	return s.find(ctx, reads, w)
}

func (s *session) fresh(l *look) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(l.begun) <= lookLasts && s.stirs.ended.Before(l.begun)
}

func readsOf(spec driver.Spec) []string {
	if spec.Work == nil {
		return nil
	}
	return spec.Work.Reads
}

// lookAs looks with the rights of the engine's user, as its init would: what that user may not see is nothing to the engine, and is
// told in no way. With false nobody may use what look has written.
func (s *session) lookAs(ctx context.Context, w wire.EngineSpec, look func()) bool {
	if !w.Foreign {
		look()
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.driver.takers.As(ctx, rights.User{UID: w.UID, GID: w.GID, Groups: w.Groups}, look) }()
	select {
	case err := <-done:
		return err == nil
	case <-ctx.Done():
		return false
	}
}

// mountsOfKeeper are those of which inits get copies.
func (s *session) mountsOfKeeper() (sandbox.Mounts, error) {
	pid, err := s.conn.Peer()
	if err != nil {
		return sandbox.Mounts{}, err
	}
	return sandbox.MountsOf(pid)
}

// lasting is what of an engine's spec cannot be said with its work. What of the host's files shows in it is looked at instead
// (sandbox.HostFiles).
func lasting(w wire.EngineSpec) wire.EngineSpec {
	return wire.EngineSpec{
		Dir: w.Dir, Alias: w.Alias, Hostname: w.Hostname, Gateway: w.Gateway, UID: w.UID, GID: w.GID, Groups: w.Groups, Foreign: w.Foreign,
		Visible: w.Visible, Shared: w.Shared, Hidden: w.Hidden, ReadOnly: w.ReadOnly, Writable: w.Writable,
	}
}

// holds reports whether an engine that waits is what one would be that is started now.
func (s *session) holds(ctx context.Context, spec driver.Spec, w wire.EngineSpec, slot *slot) bool {
	if slot.mounts.Changed() {
		return false
	}
	if s.hasSSH(w.Env) != slot.ssh {
		return false
	}
	now := s.looked(ctx, readsOf(spec), w, slot.look)
	if now == nil || slot.found == nil || !reflect.DeepEqual(lasting(w), slot.spec) {
		return false
	}
	return now.sandbox(slot.found) && (w.Work == nil || slices.Equal(now.reads, slot.found.reads))
}

// stale ends those that wait and have read what an engine did that has declined its work for that: files that are others now.
func (s *session) stale(id engine.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, there := s.engines[id]
	if slot := s.slots[id]; slot != nil {
		m, there = slot.member, true
	}
	if !there {
		return
	}
	if m.parent != nil {
		if c := s.crews[m.parent.kind]; c != nil && c.zygote.slot == m.parent {
			c.zygote.stale = append(recent(c.zygote.stale), time.Now())
		}
	}
	for id, slot := range s.slots {
		sibling := slot.parent == m.parent && (slot.kind.Name == m.kind.Name && slot.waits() || m.parent != nil && !slot.taken && !slot.dropped)
		if sibling || slot == m.parent && !slot.dropped {
			slot.dropped = true
			go s.drop(id)
		}
	}
}

// dropOthers ends those that wait and are as old as one that does not hold any more.
func (s *session) dropOthers(stale *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, slot := range s.slots {
		if slot.kind.Name == stale.kind.Name && (slot.waits() || slot.zygote && !slot.dropped) {
			slot.dropped = true
			go s.drop(id)
		}
	}
}
