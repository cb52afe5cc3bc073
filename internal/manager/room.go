package manager

import (
	"container/list"
	"math"
	"slices"
	"sync"

	"muster/internal/driver"
)

// amount is how much of the machine a request takes. CPU is in unitsOfCore: sums of fractions come back to 0.
type amount struct {
	memory int64
	cpu    int64
	gpus   int
}

// CPU is counted in these parts of a core: so fine, because requests are fractions, and no finer, because absurd requests are
// shares as well. What is more than mostCores counts as that, and sums of it still do not overflow.
const (
	unitsOfCore = 1e5
	mostCores   = 1e9
)

func coreUnits(cores float64) int64 {
	return int64(math.Round(math.Min(cores, mostCores) * unitsOfCore))
}

func coresOf(units int64) float64 { return float64(units) / unitsOfCore }

func (a amount) plus(b amount) amount {
	return amount{a.memory + b.memory, a.cpu + b.cpu, a.gpus + b.gpus}
}

func (a amount) minus(b amount) amount {
	return amount{a.memory - b.memory, a.cpu - b.cpu, a.gpus - b.gpus}
}

// fits reports whether a is within b; CPU counts in hard mode only.
func (a amount) fits(b amount, hard bool) bool {
	return a.memory <= b.memory && a.gpus <= b.gpus && (!hard || a.cpu <= b.cpu)
}

// ticket is one engine's request for room.
type ticket struct {
	want   amount
	worker *worker
	shares []*share // whose limits hold for it, besides the machine's
	own    bool     // of a session's own engine, which keeps its room until its session ends; set by take
	// Guarded by room.mu:
	state   ticketState
	place   *list.Element // in the queue
	gpus    []driver.GPU  // written once, before the worker is told of its admission
	cores   []int         // the same: whole cores it is pinned to, in hard mode
	counted bool          // in what its project holds
}

type ticketState uint8

const (
	ticketNew ticketState = iota
	ticketWaits
	ticketAdmitted
	ticketGone // gave its room back, or never got any
)

// room is what the machine has and who holds or waits for it. Requests are admitted strictly in the order in which they
// came, over all sessions: a small one does not overtake a large one, which would otherwise wait for ever. Only those are
// stepped over that no worker's end can give enough room, because sessions' own engines hold it: such an engine often waits
// for workers that would stand behind them.
type room struct {
	all   amount
	gpus  []driver.GPU
	cores []int // numbers of the machine's cores; empty: nobody is pinned
	hard  bool

	mu       sync.Mutex
	used     amount
	owned    amount // the part of used that sessions' own engines hold
	taken    []bool // by index of gpus
	pinned   []int  // by index of cores: how many are pinned to it
	queue    list.List
	crowded  bool               // more CPU is given to workers than there is
	news     chan struct{}      // closed at the next change; nil: nobody looks
	projects map[string]holding // by their folders
	shares   map[string]*share  // of users, by name
	adopting bool               // nobody is admitted: what sessions hold is not known of all yet
}

func newRoom(c Capacity, hard bool) *room {
	return &room{
		all:  amount{c.MemoryBytes, coreUnits(c.CPU), len(c.GPUs)},
		gpus: c.GPUs, cores: c.Cores, hard: hard, taken: make([]bool, len(c.GPUs)), pinned: make([]int, len(c.Cores)),
		projects: map[string]holding{}, shares: map[string]*share{},
	}
}

// take gives room to a session's own engine at once or not at all: sessions do not wait. It returns those that are admitted
// because the head of the queue has to be stepped over now.
func (r *room) take(t *ticket) (admitted []*ticket, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.want.fits(r.all.minus(r.used), r.hard) || len(t.overLocked()) > 0 {
		return nil, false
	}
	t.own = true
	r.admitLocked(t)
	return r.serveLocked(), true
}

// enter queues tickets and returns those that are admitted at once. crowded tells that with them more CPU is given than
// there is, which was not so before.
func (r *room) enter(ts []*ticket) (admitted []*ticket, crowded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range ts {
		if t.state == ticketNew { // else its worker was stopped already
			t.state = ticketWaits
			t.place = r.queue.PushBack(t)
		}
	}
	was := r.crowded
	return r.serveLocked(), r.crowded && !was
}

// release takes tickets back, whatever became of them, and returns those that are admitted in their place.
func (r *room) release(ts []*ticket) (admitted []*ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range ts {
		r.uncountLocked(t)
		switch t.state {
		case ticketWaits:
			r.queue.Remove(t.place)
		case ticketAdmitted:
			r.used = r.used.minus(t.want)
			t.shareLocked(-1)
			if t.own {
				r.owned = r.owned.minus(t.want)
			}
			for i := range r.gpus {
				for _, g := range t.gpus {
					if r.gpus[i].Index == g.Index {
						r.taken[i] = false
					}
				}
			}
			r.pinLocked(t.cores, -1)
		}
		t.state, t.place = ticketGone, nil
	}
	return r.serveLocked()
}

// serveLocked admits from the head of the queue while there is room, and tells those who look that something changed.
func (r *room) serveLocked() (admitted []*ticket) {
	if r.adopting {
		return nil
	}
	var kept map[*share]bool // somebody who came earlier waits for these
	for e := r.queue.Front(); e != nil; {
		t, this := e.Value.(*ticket), e
		e = e.Next()
		if over := t.overLocked(); len(over) > 0 {
			for _, s := range over {
				if s.endsLocked(t) {
					if kept == nil {
						kept = map[*share]bool{}
					}
					kept[s] = true
				}
			}
			continue // it holds up nobody else
		}
		if slices.ContainsFunc(t.shares, func(s *share) bool { return kept[s] }) {
			continue
		}
		switch {
		case t.want.fits(r.all.minus(r.used), r.hard):
			r.queue.Remove(this)
			r.admitLocked(t)
			admitted = append(admitted, t)
		case t.want.fits(r.all.minus(r.owned), r.hard):
			e = nil // the ends of workers will make room for it: nobody overtakes it
		}
	}
	r.crowded = r.used.cpu > r.all.cpu
	if r.news != nil {
		close(r.news)
		r.news = nil
	}
	return admitted
}

// adopt begins or ends the time in which sessions are adopted; who waits then is served by the next change.
func (r *room) adopt(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adopting = on
}

// hold gives tickets the room that their engines have already, from an earlier process: whether it is there or not.
func (r *room) hold(ts []*ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range ts {
		if t.state != ticketNew { // the engine has ended meanwhile
			continue
		}
		r.countLocked(t)
		t.state, t.own = ticketAdmitted, t.worker == t.worker.session.main
		t.shareLocked(1)
		r.used = r.used.plus(t.want)
		if t.own {
			r.owned = r.owned.plus(t.want)
		}
		for i := range r.gpus {
			for _, g := range t.gpus {
				r.taken[i] = r.taken[i] || r.gpus[i].Index == g.Index
			}
		}
		r.pinLocked(t.cores, 1)
	}
	r.crowded = r.used.cpu > r.all.cpu
}

// recount counts tickets in what their projects hold, whatever the projects' limits are now.
func (r *room) recount(ts []*ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range ts {
		if t.state == ticketNew { // the engine has not ended meanwhile
			r.countLocked(t)
		}
	}
}

func (r *room) admitLocked(t *ticket) {
	t.state, t.place = ticketAdmitted, nil
	t.shareLocked(1)
	r.used = r.used.plus(t.want)
	if t.own {
		r.owned = r.owned.plus(t.want)
	}
	for i := 0; i < len(r.gpus) && len(t.gpus) < t.want.gpus; i++ {
		if !r.taken[i] {
			r.taken[i] = true
			t.gpus = append(t.gpus, r.gpus[i])
		}
	}
	t.cores = r.pickLocked(t.want.cpu)
	r.pinLocked(t.cores, 1)
}

// pickLocked chooses the cores for a request of whole cores in hard mode: those that the fewest are pinned to.
func (r *room) pickLocked(units int64) []int {
	n := int(units / unitsOfCore)
	if !r.hard || units%unitsOfCore != 0 || n >= len(r.cores) {
		return nil
	}
	byUse := make([]int, len(r.cores))
	for i := range byUse {
		byUse[i] = i
	}
	slices.SortStableFunc(byUse, func(a, b int) int { return r.pinned[a] - r.pinned[b] })
	cores := make([]int, n)
	for i := range cores {
		cores[i] = r.cores[byUse[i]]
	}
	slices.Sort(cores)
	return cores
}

func (r *room) pinLocked(cores []int, by int) {
	for _, c := range cores {
		if i := slices.Index(r.cores, c); i >= 0 { // an earlier process may have had others
			r.pinned[i] += by
		}
	}
}
