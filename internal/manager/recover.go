package manager

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

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
		wake: make(chan struct{}, 1), byID: map[engine.ID]*worker{}, bursts: map[driver.Kind]bool{}, keys: map[string][]*worker{}, dir: filepath.Join(m.cfg.StateDir, sessionsName, string(k.ID)),
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
