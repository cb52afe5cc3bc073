package manager

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/store"
)

// adoptTime is far more than the adoption of a session takes. A keeper may not answer at all: somebody has stopped it.
const adoptTime = 30 * time.Second

func noAnswerIn(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, adoptTime, engine.Errorf(engine.Unavailable, "its keeper did not answer within %v", adoptTime))
}

func (m *Manager) adoptInTime(ctx context.Context, s *session, k store.Known) error {
	ctx, cancel := noAnswerIn(ctx)
	defer cancel()
	err := m.adopt(ctx, s, k)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// adopt takes up a session whose place lives. NotFound if it does not.
func (m *Manager) adopt(ctx context.Context, s *session, k store.Known) error {
	s.adopting = true // nobody else knows it yet
	place, err := m.cfg.Driver.Recover(ctx, driver.SessionSpec{
		ID: s.id, ConsoleDir: s.consoleDir(), Inside: m.inside(s.id), Observe: s.observe, Wrote: s.bell.Ring, Reserved: s.reserved(),
	}, driver.Handle{Version: 1, Session: s.id})
	if err != nil {
		return err
	}
	s.place = place
	s.caughtUp()
	if err := s.reopen(ctx, k); err != nil {
		return s.endedInstead(ctx, err)
	}
	m.hold(s)
	s.lease = newLease(k.Lease, m.cfg.LeaseGrace)
	s.lease.add(1) // its creator's time to come back begins when there is somebody to come back to
	if err := m.enter(s); err != nil {
		return err
	}
	go s.run() // counted by enter
	s.note(ctx, api.Event{Type: "notice", Message: "the server was restarted; the session goes on"})
	if s.kind != kindAttached && s.unstarted() {
		m.logged("end session "+string(s.id), s.end(ctx, "the end of its server while it was created"))
	}
	return nil
}

// endedInstead tells a session that ended while it was adopted, which is NotFound, from one that cannot be.
func (s *session) endedInstead(ctx context.Context, err error) error {
	if engine.KindOf(err) != engine.Unavailable {
		return err
	}
	select {
	case <-s.done:
		return engine.Errorf(engine.NotFound, "session %s has just ended", s.id.Short())
	case <-ctx.Done():
	case <-time.After(endingTime):
	}
	return err
}

// endingTime bounds how long a driver takes to say that a place is gone, from when nothing can be asked of it any more.
const endingTime = 10 * time.Second

// caughtUp is called when the driver has told all that it knew. The session's own engine may have ended, and its workers be about to:
// only of those that were not told of is it true that they never started.
func (s *session) caughtUp() {
	s.change(func(fx *effects) {
		if s.adopting = false; s.main.status.Final() {
			s.dropWaitingLocked(fx)
		}
	})
}

// reopen opens what is sealed, and the API's listener where engines know it.
func (s *session) reopen(ctx context.Context, k store.Known) error {
	var err error
	if s.seal, err = s.place.Keep(ctx, store.NewKey()); err != nil {
		return err
	}
	var secret sessionSecret
	if err := unseal(s.seal, k.Secret, string(s.id), &secret); err != nil {
		return err
	}
	s.key, s.token, s.settings = secret.Key, sha256.Sum256([]byte(secret.Key)), secret.Settings
	s.mu.Lock()
	if !s.ended {
		s.origin = &origin{base: secret.Base, search: secret.Search}
	}
	s.mu.Unlock()
	if err := s.reopenWorks(); err != nil {
		return err
	}
	s.dropUnknown()
	address, err := netip.ParseAddrPort(strings.TrimPrefix(k.API, "http://"))
	if err != nil {
		return err
	}
	l, at, err := s.place.Listen(ctx, int(address.Port()))
	if err != nil { // on the plain rung somebody else may have the port by now
		if l, at, err = s.place.Listen(ctx, 0); err != nil {
			return err
		}
		s.note(ctx, api.Event{Type: "notice", Message: fmt.Sprintf(
			"the server's port %d was taken meanwhile: engines that run do not reach it any more", address.Port())})
	}
	s.api, s.url = l, "http://"+at.String()
	s.site = s.m.newSite(s)
	s.serving.Go(func() { s.m.cfg.Serve(s.id, l) })
	return nil
}

// reopenWorks opens what it takes to start engines: of those that wait or are to be tried again, and of as many others, the last
// ones first, as are kept for a restart.
func (s *session) reopenWorks() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		if w.retrying && !slices.Contains(s.failed, w) { // else the driver has just told that it failed
			w.batch.live++
			s.failed = append(s.failed, w)
		}
	}
	seen := map[*batch]bool{}
	for _, w := range slices.Backward(s.workers) {
		b := w.batch
		if seen[b] || b.sealed == nil {
			continue
		}
		seen[b] = true
		work, err := b.unseal(s)
		if err != nil {
			return err
		}
		switch size := work.size(); {
		case b.live > 0:
			b.work, b.size, s.work = work, size, s.work+size
		case len(s.over) < maxOver && s.work+size <= maxWork:
			b.work, b.size, s.work = work, size, s.work+size
			s.over = append([]*batch{b}, s.over...)
		}
		b.sealed = nil
	}
	s.wakeLocked()
	return nil
}

func (b *batch) unseal(s *session) (*work, error) {
	var secret batchSecret
	if err := unseal(s.seal, b.sealed, batchName(s.id, b.number), &secret); err != nil {
		return nil, err
	}
	w := &work{env: secret.Env}
	return w, json.Unmarshal(secret.Command, &w.command)
}

// dropUnknown ends the workers that wait and of which nobody knows what they were to do: salvaged records may lack it.
func (s *session) dropUnknown() {
	exit := engine.Exit{
		Reason: engine.ReasonLaunchFailed, Step: "records", Code: 1, At: s.m.now(), Message: "launch failed at records: what it was to run is lost with them",
	}
	s.change(func(fx *effects) {
		for _, w := range s.workers {
			if !w.accepted && w.batch.work == nil && w.finishLocked(exit, exit.At) {
				w.giveUpLocked()
				fx.freed = append(fx.freed, &w.ticket)
			}
		}
	})
}

// reserved are the addresses that were given and are not free again.
func (s *session) reserved() []netip.Addr {
	addrs := []netip.Addr{s.main.addr}
	for _, w := range s.workers {
		if !w.status.Final() {
			addrs = append(addrs, w.addr)
		}
	}
	return addrs
}

// waiting returns the workers that the driver does not have.
func (s *session) waiting() (ws []*worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		if !w.status.Final() && !w.accepted {
			ws = append(ws, w)
		}
	}
	return ws
}

// living counts the workers that the driver has.
func (s *session) living() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		if !w.status.Final() && w.accepted {
			n++
		}
	}
	return n
}

// unstarted reports whether the session's own engine was never handed to the driver.
func (s *session) unstarted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.main.accepted && !s.main.status.Final()
}

// hold gives the engines that live the room that they have.
func (m *Manager) hold(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ts []*ticket
	for _, w := range append([]*worker{s.main}, s.workers...) {
		if !w.status.Final() && (w.accepted || w == s.main) {
			ts = append(ts, &w.ticket)
		}
	}
	if s.kind == kindAttached {
		s.main.becomeLocked(engine.Starting, s.created)
		s.main.becomeLocked(engine.Running, s.created)
	}
	m.room.hold(ts)
}

// queue lets the workers that were waiting for room wait again, in the order in which they asked for it over all sessions: at
// their launch, or when the pause before an attempt was over.
func (m *Manager) queue(ws []*worker) {
	asked := func(w *worker) time.Time {
		if w.notBefore.After(w.created) {
			return w.notBefore
		}
		return w.created
	}
	slices.SortStableFunc(ws, func(a, b *worker) int { return asked(a).Compare(asked(b)) })
	var ts, later []*ticket
	for _, w := range ws {
		w.session.mu.Lock()
		switch w.released = true; {
		case w.status.Final():
		case w.paused && w.notBefore.After(m.now()):
			w.notBefore = m.now().Add(min(w.notBefore.Sub(m.now()), pauseBefore(w.attempt))) // the clock may have been set back
			later = append(later, &w.ticket)
			w.session.pauseLocked(w)
			w.session.wakeLocked()
		default:
			w.paused = false // it was over already
			ts = append(ts, &w.ticket)
		}
		w.session.mu.Unlock()
	}
	m.room.recount(ts)
	m.room.recount(later)
	admitted, _ := m.room.enter(ts)
	admit(admitted)
}
