package manager

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/failpoint"
	"muster/internal/project"
)

// session is a session and its workers. Fields below the line are guarded by mu.
type session struct {
	m           *Manager
	id          engine.ID
	kind        string
	name        string
	project     string
	shared      []string // see driver.Spec
	settings    project.Settings
	shares      []*share       // whose limits hold for its engines
	behalf      *engine.Behalf // whose it is; nil: the server's own user's
	created     time.Time
	token       [sha256.Size]byte
	key         string               // the token itself: its engines get it
	terminal    bool                 // a terminal shows the stderr of its own engine
	tty         *driver.TerminalSize // that its own engine starts with; nil: it has no terminal
	dir         string               // where its console is
	interpreter string               // of its own engine; "": none
	site        site
	place       driver.Session
	api         net.Listener
	url         string // of the API, for its engines
	main        *worker
	bell        *console.Bell
	done        chan struct{} // closed when the place is gone
	wake        chan struct{} // pending or failed has something
	lease       *lease        // nil: its own engine's life, or a process's, is all that holds it
	serving     sync.WaitGroup
	seal        []byte               // the key for what is recorded of it
	lastEnds    map[engine.ID]ending // of a killed keeper's logs, observe's alone; nil: not read
	recording   sync.Mutex           // held while launches and ends are recorded; taken before mu
	endRecorded bool                 // guarded by recording
	// ----
	mu         sync.Mutex
	workers    []*worker // in launch order
	byID       map[engine.ID]*worker
	work       int64                    // bytes of the batches' works
	over       []*batch                 // those whose engines have all ended, and whose work is kept for a restart, oldest first
	failed     []*worker                // to be tried again
	paused     []*worker                // tries that begin later, in that order
	awaited    int                      // workers, each for every Await that covers it
	pending    []*worker                // admitted and released: to be started
	keys       map[string][]*worker     // launches by their callers' keys
	launching  map[string]chan struct{} // those that are being carried out; closed then
	recorded   bool                     // later servers will know of it
	adopting   bool                     // it is not known yet which workers the driver has
	unrecorded []*worker                // their ends are to be recorded
	batches    int                      // launched
	taking     chan struct{}            // closed when the driver has answered the last start
	ending     bool                     // nothing is launched any more
	ended      bool
	origin     *origin // nil when it has ended
	stdin      bool    // was asked for
	warmth     warmth
	bursts     map[driver.Kind]bool // kinds whose zygote was waited for: whether it is now
}

// origin is the environment from which a session was created. It is not changed.
type origin struct {
	base   map[string]string // its caller's
	search vars              // with what was given for the session: where interpreters are looked up
}

// effects is what a change under session.mu causes beyond the session, done when the lock is open again.
type effects struct {
	freed []*ticket
}

// change runs fn with the lock held, then gives room back and tells those whom it admits.
func (s *session) change(fn func(fx *effects)) {
	var fx effects
	s.mu.Lock()
	fn(&fx)
	s.mu.Unlock()
	if len(fx.freed) > 0 {
		admit(s.m.room.release(fx.freed))
	}
}

// admit tells workers, of whatever sessions, that they have their room. The caller holds no lock.
func admit(ts []*ticket) {
	for len(ts) > 0 {
		s := ts[0].worker.session
		n := 0
		s.mu.Lock()
		for n < len(ts) && ts[n].worker.session == s {
			ts[n].worker.admitted = true
			ts[n].worker.nudgeLocked()
			s.readyLocked(ts[n].worker)
			n++
		}
		s.mu.Unlock()
		ts = ts[n:]
	}
}

// readyLocked hands a worker to the starter if it may start.
func (s *session) readyLocked(w *worker) {
	if !w.admitted || !w.released || w.status != engine.Scheduling {
		return
	}
	s.pending = append(s.pending, w)
	s.wakeLocked()
}

func (s *session) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// run starts what is pending until the session or the manager ends, then lets go of what this process holds.
func (s *session) run() {
	defer s.m.group.Done()
	for {
		select {
		case <-s.wake:
			s.tryAgain()
			s.startPending()
			s.warmUp()
			s.m.logged("record ends in session "+string(s.id), s.recordEnds())
			continue
		case <-s.due():
			s.resume()
			continue
		case <-s.lease.lost():
			s.m.logged("end session "+string(s.id), s.end(s.m.ctx, "the loss of its owner's connection"))
			continue
		case <-s.done:
		case <-s.m.ctx.Done():
		}
		break
	}
	s.m.problem("record how engines of session "+s.id.Short()+" ended", s.recordEnds())
	s.api.Close()
	s.serving.Wait()
	s.m.forget(s.token)
	s.m.forgetOld()
	s.tidy()
	select {
	case <-s.done:
		s.m.tidyAll(s)
	default: // it goes on without this process
	}
}

// startPending starts what is pending, but for bursts that are held, in one call of the driver, the rest of a very large launch in the next.
func (s *session) startPending() {
	s.holdBursts()
	s.mu.Lock()
	var batch []*worker
	var works []*work
	from := s.origin
	s.pending = slices.DeleteFunc(s.pending, func(w *worker) bool {
		if s.heldLocked(w) {
			return false
		}
		if len(batch) == maxStart {
			s.wakeLocked()
			return false
		}
		if w.becomeLocked(engine.Starting, s.m.now()) {
			batch, works = append(batch, w), append(works, w.batch.work)
		}
		return true
	})
	if len(s.pending) == 0 {
		s.pending = nil
	}
	if len(batch) == 0 || from == nil { // without origin the session has ended, and all are final
		s.mu.Unlock()
		return
	}
	taken := make(chan struct{})
	s.taking = taken
	s.mu.Unlock()
	defer close(taken)
	specs := make([]driver.Spec, len(batch))
	for i, w := range batch {
		specs[i] = s.spec(w, works[i], from)
	}
	failpoint.Here("start: before driver")
	errs := s.place.Start(s.m.ctx, specs)
	failpoint.Here("start: after driver")
	s.started(batch, errs)
	s.keepWarmAll(batch, works, from)
}

// started takes the driver's answer: refused engines are final, and those whom somebody stopped meanwhile are stopped now. What this
// process gave up because it ends has not failed: it is the next one's to start.
func (s *session) started(batch []*worker, errs []error) {
	var stop, refused []*worker
	s.change(func(fx *effects) {
		for i, w := range batch {
			if errs[i] == nil {
				w.accepted = true
				if w.stopBy != "" && !w.status.Final() {
					stop = append(stop, w)
				}
				continue
			}
			if s.m.ctx.Err() != nil && errors.Is(errs[i], context.Canceled) {
				continue
			}
			refused = append(refused, w)
			exit := engine.Exit{Reason: engine.ReasonLaunchFailed, Step: stepOf(errs[i]), Message: "launch failed at " + errs[i].Error()}
			if s.ending || errors.Is(errs[i], driver.ErrEnding) { // the driver may know of it before this process is told
				exit = engine.Exit{Reason: engine.ReasonSessionEnded, Message: "its session ended before it started"}
			}
			exit.At = s.m.now()
			if w.finishLocked(exit, exit.At) {
				fx.freed = append(fx.freed, &w.ticket)
			}
		}
	})
	for _, w := range refused {
		s.place.Release(w.addr)
	}
	for _, w := range stop { // also if this process ends: the next one does not know of it
		failpoint.Here("stop: before driver")
		s.m.logged("stop "+string(w.id), s.place.Stop(context.WithoutCancel(s.m.ctx), w.id, stopGrace, engine.ReasonStopped, w.stopBy))
		failpoint.Here("stop: after driver")
	}
}

// stepOf names the step at which the driver could not go on.
func stepOf(err error) string {
	var failed *driver.StartError
	if errors.As(err, &failed) {
		return failed.Step
	}
	return "start"
}

// spec is what the driver needs to start a worker. Everything it looks at is fixed once a worker is admitted.
func (s *session) spec(w *worker, work *work, from *origin) driver.Spec {
	b, c, who := w.batch, work.command, s.m.accountOf(s)
	env := s.m.environment(s, w, work, from).list()
	var ahead *driver.Work
	if w.kind != (driver.Kind{}) && c.Ahead != nil {
		ahead = &driver.Work{Kind: w.kind, Reads: c.Ahead.Reads}
		ahead.Bytes, ahead.File = c.Work(env)
	}
	return driver.Spec{
		ID: w.id, Name: b.name, Role: b.role, Address: w.addr, Master: s.main.addr, Hostname: string(w.id), Work: ahead,
		Argv: c.Argv, Private: c.Private, Env: env, Files: c.Files,
		Dir: s.project, Alias: s.alias(), Visible: append([]string{s.project}, c.Visible...), Shared: s.shared,
		Resources: b.resources(), HardCPU: s.m.cfg.HardCPU || s.settings.Limits.HardCPU, CPUSet: w.ticket.cores, TimeLimit: b.timeLimit, GPUs: w.ticket.gpus,
		UID: who.UID, GID: who.GID, Groups: who.Groups, Foreign: s.behalf != nil,
	}
}

// note writes an event to the session's console, under its own engine: workers that wait have no console yet.
func (s *session) note(ctx context.Context, e api.Event) {
	b, err := json.Marshal(e)
	if err == nil {
		err = s.place.Note(ctx, s.main.id, b)
	}
	s.m.logged("note in the console of "+string(s.id), err)
}

// find returns a worker, or the session's own engine.
func (s *session) findLocked(id engine.ID) *worker {
	if id == s.main.id {
		return s.main
	}
	return s.byID[id]
}
