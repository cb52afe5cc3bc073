package manager

import (
	"fmt"
	"strings"
	"sync/atomic"

	"muster/engine"
	"muster/internal/quota"
)

// share is what the engines of one user, or of one session, have of the machine, and the most that they may. Whoever is over it
// waits, and holds up only those who share it: a project's own limits (quota.go) refuse instead, for they are the project's word.
type share struct {
	whose string // "user alice", "the session"
	most  shareSize
	// Guarded by room.mu; the copy is for those who describe what waits.
	used  shareSize
	owned amount // the part of used that sessions' own engines hold
	told  atomic.Pointer[shareSize]
}

// shareSize counts workers besides; in a limit 0 is none.
type shareSize struct {
	amount
	workers int
}

func newShare(whose string, l quota.Limits) *share {
	return &share{whose: whose, most: shareSize{amount{memory: bytesOf(l.Memory), cpu: coreUnits(l.CPU), gpus: l.GPUs}, l.Workers}}
}

// limited reports whether there is any limit: shares without one are not counted.
func (s *share) limited() bool { return s.most != shareSize{} }

// sharesOf are those whose limits hold for a session's engines.
func (m *Manager) sharesOf(s *session) (all []*share) {
	user := s.user().Name
	whose := "this server's user"
	if user != "" {
		whose = "user " + user
	}
	r := m.room
	r.mu.Lock()
	of := r.shares[user]
	if of == nil {
		of = newShare(whose, m.cfg.Quotas.Of(user))
		r.shares[user] = of
	}
	r.mu.Unlock()
	for _, sh := range []*share{of, newShare("the session", m.cfg.Quotas.Session)} {
		if sh.limited() {
			all = append(all, sh)
		}
	}
	return all
}

// counts is what an engine takes of its shares.
func (t *ticket) counts() shareSize {
	c := shareSize{amount: t.want}
	if t.worker == nil || t.worker.session == nil || t.worker != t.worker.session.main {
		c.workers = 1
	}
	return c
}

func (a shareSize) plus(b shareSize) shareSize {
	return shareSize{a.amount.plus(b.amount), a.workers + b.workers}
}

func (a shareSize) minus(b shareSize) shareSize {
	return shareSize{a.amount.minus(b.amount), a.workers - b.workers}
}

// within reports whether a is no more than a limit.
func (a shareSize) within(most shareSize) bool {
	return (most.memory == 0 || a.memory <= most.memory) && (most.cpu == 0 || a.cpu <= most.cpu) &&
		(most.gpus == 0 || a.gpus <= most.gpus) && (most.workers == 0 || a.workers <= most.workers)
}

// overLocked are those of a ticket's shares that have no room for it now.
func (t *ticket) overLocked() (over []*share) {
	for _, s := range t.shares {
		if !s.used.plus(t.counts()).within(s.most) {
			over = append(over, s)
		}
	}
	return over
}

// endsLocked reports whether the ends of workers will make room in a share, and not only that of a session.
func (s *share) endsLocked(t *ticket) bool {
	return shareSize{amount: s.owned}.plus(t.counts()).within(s.most)
}

// shareLocked counts a ticket that is admitted, or with -1 takes it back.
func (t *ticket) shareLocked(by int) {
	for _, s := range t.shares {
		c := t.counts()
		if by < 0 {
			s.used = s.used.minus(c)
		} else {
			s.used = s.used.plus(c)
		}
		if t.own && by < 0 {
			s.owned = s.owned.minus(c.amount)
		} else if t.own {
			s.owned = s.owned.plus(c.amount)
		}
		told := s.used
		s.told.Store(&told)
	}
}

// now is what is used of a share, for messages.
func (s *share) now() shareSize {
	if u := s.told.Load(); u != nil {
		return *u
	}
	return shareSize{}
}

// neverShared says why a request cannot fit a share even when nothing else of it runs, "" if it can. held is what its own session's
// engine keeps as long as the worker could wait.
func neverShared(want, held amount, workers int, shares []*share) string {
	for _, s := range shares {
		asks := shareSize{amount: want, workers: workers}
		if asks.plus(shareSize{amount: held}).within(s.most) {
			continue
		}
		text := "asks for " + s.lack(asks, shareSize{amount: held}, func(_, has string) string { return s.whose + " may have " + has + " in all" })
		if asks.within(s.most) {
			text += ", and the session itself holds a part of that"
		}
		return text
	}
	return ""
}

// lack says in what a request is over a share of which some is used.
func (s *share) lack(asks, used shareSize, most func(used, has string) string) string {
	var parts []string
	for _, p := range []struct {
		over            bool
		want, used, has string
	}{
		{s.most.memory > 0 && asks.memory+used.memory > s.most.memory, gigabytes(asks.memory) + " of memory", gigabytes(used.memory), gigabytes(s.most.memory)},
		{s.most.cpu > 0 && asks.cpu+used.cpu > s.most.cpu, cores(coresOf(asks.cpu)), number(coresOf(used.cpu)), number(coresOf(s.most.cpu))},
		{s.most.gpus > 0 && asks.gpus+used.gpus > s.most.gpus, count(asks.gpus, "GPU"), fmt.Sprint(used.gpus), fmt.Sprint(s.most.gpus)},
		{s.most.workers > 0 && asks.workers+used.workers > s.most.workers, count(asks.workers, "worker"), fmt.Sprint(used.workers), fmt.Sprint(s.most.workers)},
	} {
		if p.over {
			parts = append(parts, p.want+", "+most(p.used, p.has))
		}
	}
	return strings.Join(parts, "; ")
}

// waitsInShare says for what of its shares a ticket waits, "" if for nothing of them.
func (t *ticket) waitsInShare() string {
	for _, s := range t.shares {
		used := s.now()
		if used.plus(t.counts()).within(s.most) {
			continue
		}
		return "waits for other engines of " + s.whose + " to end: asks for " +
			s.lack(t.counts(), used, func(used, has string) string { return "and " + used + " of the quota of " + has + " are in use" })
	}
	return ""
}

// neverShared is the error for a session whose own engine is more than a share may ever have. Its CPU, although it is not counted but in
// hard mode, is its weight beside others' engines.
func (w *worker) neverShared() error {
	want := w.ticket.want
	want.cpu = coreUnits(w.batch.cpu)
	if never := neverShared(want, amount{}, 0, w.ticket.shares); never != "" {
		return engine.Errorf(engine.NoCapacity, "the session %s", never).WithHint("ask for less")
	}
	return nil
}

// noShare is the error for a session whose own engine has no room in a share.
func noShare(t *ticket) error {
	if what := t.waitsInShare(); what != "" {
		return engine.Errorf(engine.Unavailable, "the session %s", strings.Replace(what, "waits for other engines", "has to wait for other engines", 1)).
			WithHint("stop some of them (muster ps), or ask for less")
	}
	return nil
}
