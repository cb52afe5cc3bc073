package manager

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/kernel"
)

// Engines are started ahead of their work where the driver can do that: a few of each kind that a session launches. A kind is all that
// has to be said when an interpreter starts; the rest is said with the work. The first launch of a kind is cold, but for what waits of another kind.

const (
	// fewestAhead of a kind wait; else as many as were launched at once lately, if the driver has room for them.
	fewestAhead = 2
	// aheadFor is how long engines wait for work of a kind of which there was none meanwhile, or not as much.
	aheadFor = 5 * time.Minute
	// mostKinds wait in a session, which differ in more than numbers of threads, and mostThreads of each that differ in these.
	mostKinds   = 2
	mostThreads = 2
)

// warmth is what a session does ahead. Guarded by session.mu.
type warmth struct {
	due   bool        // the first are to be started
	kinds []*warmKind // the last used first
}

type warmKind struct {
	kind   driver.Kind
	spec   func(driver.Seat) driver.Spec
	recent []launchOf  // each smaller than the one before
	due    *time.Timer // when the first of them is long ago
}

// tooMany returns the kinds that are not to wait any more. Those stay whose zygote is waited for.
func (w *warmth) tooMany(awaited map[driver.Kind]bool) (many []*warmKind) {
	of := map[string]int{}
	for _, k := range w.kinds {
		if awaited[k.kind] {
			of[k.kind.Name]++
		}
	}
	for _, k := range w.kinds {
		switch n := of[k.kind.Name]; {
		case awaited[k.kind]:
		case n == 0 && len(of) >= mostKinds, n >= mostThreads:
			many = append(many, k)
		default:
			of[k.kind.Name]++
		}
	}
	return many
}

// launchOf is a launch of n at once.
type launchOf struct {
	n  int
	at time.Time
}

// launched notes that n were launched at once, want forgets what is long ago: it is the largest of late, 0 if there is none.
func (k *warmKind) launched(n int, now time.Time) {
	for last := len(k.recent) - 1; last >= 0 && k.recent[last].n <= n; last-- {
		k.recent = k.recent[:last]
	}
	k.recent = append(k.recent, launchOf{n, now})
}

func (k *warmKind) want(now time.Time) int {
	for len(k.recent) > 0 && now.Sub(k.recent[0].at) >= aheadFor {
		k.recent = k.recent[1:]
	}
	if len(k.recent) == 0 {
		return 0
	}
	return k.recent[0].n
}

// warmer is the place's power to start engines ahead; nil if there is none, or nobody wants it.
func (s *session) warmer() driver.Warmer {
	if s.m.cfg.Ahead == AheadOff || !s.m.cfg.Driver.Capabilities().Ahead {
		return nil
	}
	w, _ := s.place.(driver.Warmer)
	return w
}

// kindOf is the kind of engines that a launch needs; the zero Kind if it can only be started with its work.
func (b *batch) kindOf(w *work) driver.Kind {
	a := w.command.Ahead
	if a == nil || b.gpus > 0 {
		return driver.Kind{}
	}
	said, counts := []string{}, []string{strconv.Itoa(threads(b.cpu))}
	for _, word := range a.Argv {
		said = append(said, strings.ReplaceAll(word, w.command.Private, ""))
	}
	if a.All { // variables tell of these
		said = append(said, number(b.cpu), number(b.memory))
	}
	for _, k := range slices.Sorted(maps.Keys(w.env)) {
		switch {
		case slices.Contains(kernel.ThreadVariables, k) && isNumber(w.env[k]):
			counts = append(counts, k+"="+w.env[k])
		case a.All || kernel.ReadAtStart(k): // those of threads that say no number, too
			said = append(said, k+"="+w.env[k])
		}
	}
	if !a.Threads { // they count wherever it is started
		return driver.Kind{Name: strings.Join(append(said, counts...), "\x00")}
	}
	return driver.Kind{Name: strings.Join(said, "\x00"), Threads: strings.Join(counts, "\x00"), Bare: a.Bare}
}

// isNumber reports whether a variable says how many threads there are to be; libraries read the rest each in its own way.
func isNumber(value string) bool {
	n, err := strconv.ParseUint(value, 10, 31)
	return err == nil && n > 0
}

// threads is how many threads libraries start in an engine.
func threads(cpu float64) int { return max(1, int(math.Ceil(math.Min(cpu, 1e6)))) }

// seats gives n engines to come their ids and addresses, those of engines that wait, as far as there are any, first: of such as wait for
// this very kind of work, then of others. Kind is the zero Kind where nothing that waits is to be used, but for its address where no other is left.
func (s *session) seats(b *batch, n int) (seats []driver.Seat, waiting int, kind driver.Kind, err error) {
	s.mu.Lock()
	work := b.work
	s.mu.Unlock()
	w := s.warmer()
	if w != nil && work != nil && (s.m.cfg.Ahead != AheadRandom || rand.N(2) == 0) {
		if kind = b.kindOf(work); kind != (driver.Kind{}) {
			seats = w.Take(kind, n)
		}
		if b.gpus == 0 && !s.forks(kind, work, n-len(seats)) { // another kind's: all but the interpreter is done
			seats = append(seats, w.Take(driver.Kind{}, n-len(seats))...)
		}
	}
	addrs, err := s.place.Reserve(n - len(seats))
	for err != nil && w != nil && len(seats) < n {
		one := w.Take(driver.Kind{}, 1)
		if len(one) == 0 {
			break
		}
		seats = append(seats, one...)
		addrs, err = s.place.Reserve(n - len(seats))
	}
	if err != nil {
		for _, seat := range seats {
			s.place.Release(seat.Address)
		}
		return nil, 0, driver.Kind{}, err
	}
	waiting = len(seats)
	for _, a := range addrs {
		seats = append(seats, driver.Seat{ID: engine.NewID(), Address: a})
	}
	return seats, waiting, kind, nil
}

// forks reports whether n workers of a kind would sooner be forked than get an interpreter of their own: there is a zygote, or it is worth
// waiting for one.
func (s *session) forks(kind driver.Kind, work *work, n int) bool {
	if !work.forks(kind) {
		return false
	}
	s.mu.Lock()
	held, known := s.bursts[kind]
	s.mu.Unlock()
	return n >= burst && (held || !known) || s.warmer().Forks(kind)
}

// warmSoonLocked has warmUp called, where engines are started ahead.
func (s *session) warmSoonLocked() {
	if s.warmer() != nil {
		s.warmth.due = true
		s.wakeLocked()
	}
}

// warmUp has the first engines wait: workers of the session's own kernel, which most sessions launch.
func (s *session) warmUp() {
	s.mu.Lock()
	due := s.warmth.due
	s.warmth.due = false
	s.mu.Unlock()
	if !due {
		return
	}
	b, err := s.m.prepare(s.m.ctx, s, api.LaunchWorkers{N: 1, Code: "0", OrElse: true})
	if err != nil {
		return // the first launch will say it
	}
	if from, err := s.from(); err == nil {
		s.keepWarm(b, b.work, from, fewestAhead, false)
	}
}

// keepWarmAll has engines wait for launches like those of which workers were just started.
func (s *session) keepWarmAll(ws []*worker, works []*work, from *origin) {
	count := map[*batch]int{}
	for _, w := range ws {
		count[w.batch]++
	}
	for i, w := range ws {
		if n := count[w.batch]; n > 0 {
			delete(count, w.batch)
			s.keepWarm(w.batch, works[i], from, n, true)
		}
	}
}

// keepWarm has engines wait for the next launch like this one, of n workers. A zygote is made when there was a launch: who never launches
// need not have one.
func (s *session) keepWarm(b *batch, work *work, from *origin, n int, launched bool) {
	w := s.warmer()
	if w == nil || work == nil {
		return
	}
	kind := b.kindOf(work)
	if kind == (driver.Kind{}) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return
	}
	i := slices.IndexFunc(s.warmth.kinds, func(k *warmKind) bool { return k.kind == kind })
	if i >= 0 && !launched {
		return // a launch was faster
	}
	var k *warmKind
	if i >= 0 {
		k = s.warmth.kinds[i]
		s.warmth.kinds = slices.Delete(s.warmth.kinds, i, i+1)
	} else {
		k = &warmKind{kind: kind}
	}
	k.spec = s.aheadSpec(b, work, from, launched)
	k.launched(max(n, fewestAhead), s.m.now())
	s.warmth.kinds = slices.Insert(s.warmth.kinds, 0, k)
	for _, k := range s.warmth.tooMany(s.bursts) {
		s.coolLocked(k)
	}
	if slices.Contains(s.warmth.kinds, k) {
		s.warmLocked(k)
	}
}

// warmLocked has as many of a kind wait as are wanted now, and looks again when that may be fewer. The caller holds mu.
func (s *session) warmLocked(k *warmKind) {
	n := k.want(s.m.now())
	if n == 0 {
		s.coolLocked(k)
		return
	}
	if k.due != nil {
		k.due.Stop()
	}
	k.due = time.AfterFunc(k.recent[0].at.Add(aheadFor).Sub(s.m.now()), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if slices.Contains(s.warmth.kinds, k) {
			s.warmLocked(k)
		}
	})
	if w := s.warmer(); w != nil {
		w.Warm(k.kind, n, k.spec)
	}
}

// coolLocked ends the engines of a kind that wait. The caller holds mu.
func (s *session) coolLocked(k *warmKind) {
	if i := slices.Index(s.warmth.kinds, k); i >= 0 {
		s.warmth.kinds = slices.Delete(s.warmth.kinds, i, i+1)
		if k.due != nil {
			k.due.Stop()
		}
		if w := s.warmer(); w != nil {
			w.Warm(k.kind, 0, nil)
		}
	}
}

// coolAllLocked lets nothing of the session wait any more.
func (s *session) coolAllLocked() {
	for len(s.warmth.kinds) > 0 {
		s.coolLocked(s.warmth.kinds[0])
	}
}

// aheadSpec makes the spec of an engine that waits for work such as this.
func (s *session) aheadSpec(b *batch, of *work, from *origin, forks bool) func(driver.Seat) driver.Spec {
	ahead := &batch{role: engine.RoleWorker, cpu: b.cpu, memory: b.memory, kernel: b.kernel}
	w := &work{command: of.command, env: map[string]string{}}
	w.command.Argv, w.command.Files = of.command.Ahead.Argv, of.command.Ahead.Files
	for k, v := range of.env {
		if of.command.Ahead.All || kernel.ReadAtStart(k) {
			w.env[k] = v
		}
	}
	return func(seat driver.Seat) driver.Spec {
		spec := s.spec(newWorker(s, ahead, seat.ID, seat.Address, s.m.now()), w, from)
		spec.Work = &driver.Work{Bytes: of.command.Ahead.Begin, Reads: of.command.Ahead.Reads}
		if forks {
			spec.Work.Fork = of.command.Ahead.Fork
		}
		spec.Resources = engine.Resources{CPU: idleWeight, MemoryBytes: spec.Resources.MemoryBytes}
		spec.TimeLimit = 0
		return spec
	}
}

// idleWeight is the share of the CPU that engines have before their work: what runs goes first.
const idleWeight = 0.1
