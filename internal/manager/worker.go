package manager

import (
	"net/netip"
	"slices"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/kernel"
)

// batch is what the engines of one launch have in common. But for its work it is not changed once it is made.
type batch struct {
	name   string
	role   engine.Role
	cpu    float64       // as asked
	memory float64       // as asked, gigabytes
	gpus   int           // as asked
	kernel engine.Kernel // descriptions need it even when there is no work
	number int           // 1, 2, … of the session's launches as recorded; 0: it is not
	sealed []byte        // the work as an earlier process recorded it; nil: it is not, or was opened
	key    string        // the caller's, by which the same launch is known again; may be empty
	group  string        // "": none
	terms
	// ----
	// Guarded by session.mu once the batch has engines:
	work *work // nil when nothing of it can be started any more
	live int   // who needs it: engines that are not final, or are to be tried again
	held bool  // work is counted in session.work, as size
	size int64
}

// work is what it takes to start an engine. It may be large (code has megabytes), and is not changed.
type work struct {
	command kernel.Command
	env     map[string]string // what the caller gave for these engines
}

// size is what it holds in memory, but for what all works share.
func (w *work) size() int64 {
	n := 0
	for _, content := range w.command.Files {
		n += len(content)
	}
	for k, v := range w.env {
		n += len(k) + len(v)
	}
	return int64(n)
}

func (b *batch) resources() engine.Resources {
	return engine.Resources{CPU: b.cpu, MemoryBytes: bytesOf(b.memory), GPUs: b.gpus}
}

func (b *batch) amount() amount {
	return amount{memory: bytesOf(b.memory), cpu: coreUnits(b.cpu), gpus: b.gpus}
}

// worker is one engine: a worker, or a session's own. Fields below the line are guarded by session.mu.
type worker struct {
	id      engine.ID
	session *session
	batch   *batch
	addr    netip.Addr
	created time.Time
	ticket  ticket
	kind    driver.Kind // of engines that wait for such work; the zero Kind: it is started with it
	seated  bool        // one waits for it
	// ----
	lineage
	status   engine.Status
	released bool // the reply that tells of it is written
	admitted bool // it has its room
	accepted bool // the driver has it: only the driver ends it
	starting time.Time
	running  time.Time
	stopping time.Time
	finished time.Time
	exit     *engine.Exit
	stopBy   string // who asked for its end while the driver was just taking it; "": nobody
	waiters  []*waiter
	done     chan struct{} // closed when it has ended; nil: nobody asked
}

func newWorker(s *session, b *batch, id engine.ID, addr netip.Addr, now time.Time) *worker {
	w := &worker{id: id, session: s, batch: b, addr: addr, created: now, status: engine.Scheduling}
	w.ticket.want = b.amount()
	w.ticket.worker, w.ticket.shares = w, s.shares
	return w
}

// become moves the status forward and stamps the time; false if that is no step forward.
func (w *worker) becomeLocked(next engine.Status, at time.Time) bool {
	if !w.status.CanBecome(next) {
		return false
	}
	w.status = next
	at = latest(at, w.created, w.starting, w.running, w.stopping) // a clock that was set back makes no life of negative length
	switch {
	case next == engine.Starting:
		w.starting = at
	case next == engine.Running:
		w.running = at
	case next == engine.Stopping:
		w.stopping = at
	case next.Final():
		w.finished = at
	}
	w.tellLocked()
	return true
}

// doneLocked is closed when the engine has ended.
func (w *worker) doneLocked() <-chan struct{} {
	if w.done == nil {
		w.done = make(chan struct{})
		if w.status.Final() {
			close(w.done)
		}
	}
	return w.done
}

// finishLocked makes the engine's end known, once.
func (w *worker) finishLocked(exit engine.Exit, at time.Time) bool {
	if w.status.Final() {
		return false
	}
	w.exit = &exit
	w.session.unrecordedLocked(w)
	if w.retrying = w.retryLocked(exit.Reason); w.retrying {
		w.session.failed = append(w.session.failed, w)
		w.session.wakeLocked()
	} else {
		w.session.lessLocked(w.batch)
	}
	if w.done != nil {
		close(w.done)
	}
	return w.becomeLocked(exit.Status(), at)
}

func latest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.After(first) {
			first = t
		}
	}
	return first
}

// adoptLocked takes up an engine that an earlier process started.
func (w *worker) adoptLocked(held *driver.Held) {
	if w.status.Final() {
		return
	}
	w.accepted, w.admitted, w.released, w.paused = true, true, true, false
	w.becomeLocked(engine.Starting, w.created)
	if held == nil {
		return
	}
	w.ticket.cores = held.Cores
	for _, g := range w.session.m.cfg.Capacity.GPUs {
		if slices.Contains(held.GPUs, g.Index) {
			w.ticket.gpus = append(w.ticket.gpus, g)
		}
	}
}
