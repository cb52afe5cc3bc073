package manager

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/store"
)

// Recovered counts what Recover found.
type Recovered struct {
	Adopted int      // sessions that live
	Engines int      // of theirs that live
	Stuck   []string // sentences for people: sessions that live and could not be adopted
	Lost    []string // sentences for people: sessions that did not end by themselves while no server was there
	Moved   []string // the same: sessions whose web addresses are others now
	Orphans []string // the same of places that nobody had recorded: they were ended
}

// Recover takes up what an earlier process recorded, before people are served. Engines of sessions that are adopted already may ask
// meanwhile: what they launch gets no room until all are. Sessions whose place lives are adopted: their
// engines go on, what waited waits again in the order of its launch. Of the others it finds out how they ended: by their
// consoles, else they are lost. A session that cannot be adopted for another reason goes on without a server, and its keeper ends it
// as ever: all others are adopted, and the next server tries again.
//
//	recorded ─► place lives ─► adopted: ends told by the driver, the rest waits or runs
//	         └► place is gone ─► ended: ends from the records, then from the console, else lost
//	not recorded, place lives ─► orphan: ended
func (m *Manager) Recover(ctx context.Context) (found Recovered, err error) {
	if !m.records() {
		return found, nil
	}
	known, err := m.cfg.Records.Sessions()
	if err != nil {
		return found, err
	}
	m.room.adopt(true)
	var waiting []*worker
	moved := map[string]int{}
	for _, k := range known {
		s, err := m.remember(k)
		if err != nil {
			return found, wrap("take up session "+k.ID.Short(), err)
		}
		if k.Ended {
			m.settle(s)
			continue
		}
		switch err := m.adoptInTime(ctx, s, k); {
		case err == nil:
			found.Adopted++
			found.Engines += s.living()
			if k.Web != "" && k.Web != m.cfg.Web {
				moved[k.Web]++
			}
			defer s.lease.add(-1)
			waiting = append(waiting, s.waiting()...)
		case engine.KindOf(err) == engine.NotFound:
			if s, err = m.remember(k); err != nil { // anew: the driver may have told something of it before it ended
				return found, wrap("take up session "+k.ID.Short(), err)
			}
			if sentence := m.lose(s, k); sentence != "" {
				found.Lost = append(found.Lost, sentence)
			}
		default:
			found.Stuck = append(found.Stuck, stuck(k, err))
		}
	}
	found.Moved = m.moved(moved)
	m.room.adopt(false)
	m.queue(waiting)
	m.forgetOld()
	m.tidyAll(nil)
	found.Orphans, err = m.endOrphans(ctx, known)
	return found, err
}

// moved says which web addresses that people may have kept lead nowhere now: of so many sessions each.
func (m *Manager) moved(sessions map[string]int) (told []string) {
	now := "are below http://" + m.cfg.Web + " now"
	if m.cfg.Web == "" {
		now = "there are none now"
	}
	for _, before := range slices.Sorted(maps.Keys(sessions)) {
		told = append(told, fmt.Sprintf("the web addresses of adopted sessions (%d) moved: they were below http://%s, and %s; engines that run name the old ones",
			sessions[before], before, now))
	}
	return told
}

func stuck(k store.Known, err error) string {
	text := fmt.Sprintf("session %s (%s) goes on without this server, which could not adopt it: %v", k.ID, k.Name, err)
	if hint := engine.HintOf(err); hint != "" {
		text += " (" + hint + ")"
	}
	return text
}

// remember makes a session of its records, of which nothing lives yet.
func (m *Manager) remember(k store.Known) (*session, error) {
	batches, err := m.cfg.Records.Batches(k.ID)
	if err != nil {
		return nil, err
	}
	ends, err := m.cfg.Records.Ends(k.ID)
	if err != nil {
		return nil, err
	}
	s := &session{
		m: m, id: k.ID, kind: k.Kind, name: k.Name, project: k.Project, shared: slices.Concat(k.Shared, m.cfg.Own), created: k.Created, terminal: k.Terminal,
		stdin: k.Stdin, interpreter: k.Interpreter, place: gone{}, url: k.API, bell: console.NewBell(), done: make(chan struct{}),
		wake: make(chan struct{}, 1), byID: map[engine.ID]*worker{}, keys: map[string][]*worker{}, dir: filepath.Join(m.cfg.StateDir, sessionsName, string(k.ID)),
	}
	s.settings.Name, s.settings.Owner = k.ProjectName, k.Owner
	if s.behalf, err = m.behalfAgain(k.User, k.Ended); err != nil {
		return nil, err
	}
	s.shares = m.sharesOf(s)
	if k.TTY {
		s.tty = &driver.TerminalSize{}
	}
	own := &batch{name: k.Name, role: engine.RoleSession, cpu: k.CPU, memory: k.Memory, gpus: k.GPUs, kernel: k.Kernel, live: 1, work: &work{}, held: true}
	s.main = newWorker(s, own, k.ID, k.Address, k.Created)
	if !m.cfg.HardCPU {
		s.main.ticket.want.cpu = 0
	}
	if k.Kind == kindAttached {
		s.main.ticket.want = amount{}
	}
	s.ending = true // what has ended is not tried again, while that is found out
	numbers := map[int]*batch{}
	for _, r := range batches {
		s.rememberBatch(r, numbers)
	}
	for id, e := range ends {
		if w := s.findLocked(id); w != nil {
			w.starting, w.running, w.stopping = e.Starting, e.Running, e.Stopping
			w.finishLocked(e.Exit, e.Finished)
			w.retrying = e.Retrying && w.retriedAs == "" && !k.Ended
		}
	}
	s.ending = k.Ended
	s.recorded = true
	s.site = m.newSite(s)
	return s, nil
}

func (s *session) rememberBatch(r store.LaunchedBatch, numbers map[int]*batch) {
	b := numbers[r.Of]
	if b == nil { // it stands for itself
		b = &batch{
			name: r.Name, role: engine.RoleWorker, cpu: r.CPU, memory: r.Memory, gpus: r.GPUs, kernel: r.Kernel, group: r.Group,
			terms: terms{r.Retries, r.TimeLimit}, number: r.Number, key: r.Key, sealed: r.Secret, held: true,
		}
		numbers[r.Number] = b
	}
	s.batches = max(s.batches, r.Number)
	for _, w := range r.Workers {
		made := newWorker(s, b, w.ID, w.Address, r.Created)
		made.lineage = lineage{attempt: w.Attempt, first: w.First, previous: w.Previous, restartOf: w.RestartOf,
			notBefore: w.NotBefore, paused: !w.NotBefore.IsZero()}
		if before := s.byID[w.Previous]; before != nil {
			before.retriedAs = w.ID
		}
		s.workers = append(s.workers, made)
		s.byID[w.ID] = made
		b.live++
		if r.Key != "" {
			s.keys[r.Key] = append(s.keys[r.Key], made)
		}
	}
}

// settle enters a session that has ended.
func (m *Manager) settle(s *session) {
	s.ending, s.ended, s.endRecorded = true, true, true
	select {
	case <-s.done: // it ended while it was taken up
	default:
		close(s.done)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[s.id] = s
	m.order = append(m.order, s)
}

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

// endOrphans ends places that live and of which there is no record: nobody could ever ask for them. Those that end with the
// process that opened them are left alone.
func (m *Manager) endOrphans(ctx context.Context, known []store.Known) (told []string, err error) {
	handles, err := m.cfg.Driver.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range handles {
		if h.Ephemeral || slices.ContainsFunc(known, func(k store.Known) bool { return k.ID == h.Session }) {
			continue
		}
		dir := filepath.Join(m.cfg.StateDir, sessionsName, string(h.Session))
		switch err := m.endOrphan(ctx, h, dir); {
		case engine.KindOf(err) == engine.NotFound:
			continue // it has just ended
		case err != nil:
			told = append(told, fmt.Sprintf("session %s runs without a record, and cannot be ended: %v", h.Session, err))
			continue
		}
		told = append(told, fmt.Sprintf("session %s ran without a record: it was ended; what it printed is in %s", h.Session, dir))
	}
	return told, nil
}

func (m *Manager) endOrphan(ctx context.Context, h driver.Handle, dir string) error {
	ctx, cancel := noAnswerIn(ctx)
	defer cancel()
	place, err := m.cfg.Driver.Recover(ctx, driver.SessionSpec{
		ID: h.Session, ConsoleDir: filepath.Join(dir, consoleName), Observe: func(driver.Observation) {},
	}, h)
	if err == nil {
		err = place.End(ctx, endGrace, "a server that has no record of it")
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
