package manager

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"muster/api"
	"muster/engine"
	"muster/internal/failpoint"
	"muster/internal/kernel"
	"muster/internal/project"
)

// Launch validates, admits and answers at once; one description for each worker asked, refused ones without id. The
// workers begin when release is called, after the reply was written.
func (m *Manager) Launch(ctx context.Context, id engine.ID, req api.LaunchWorkers) (api.Workers, func(), error) {
	nothing := func() {}
	s, err := m.session(id)
	if err != nil {
		return api.Workers{}, nothing, err
	}
	if req.N < 0 || req.N > maxLaunch {
		return api.Workers{}, nothing, invalid("n must be from 0 to %d, not %d", maxLaunch, req.N)
	}
	if err := s.open(); err != nil {
		return api.Workers{}, nothing, err
	}
	if req.N == 0 {
		return api.Workers{Workers: []api.Worker{}}, nothing, nil
	}
	ws, err := s.claimKey(ctx, req.Key)
	if err != nil {
		return api.Workers{}, nothing, wrap("launch workers", err)
	}
	if ws != nil {
		return api.Workers{Workers: m.describe(ws)}, sync.OnceFunc(func() { s.release(ws) }), nil
	}
	defer func() { s.nameLaunch(req.Key, ws) }()
	b, err := m.prepare(ctx, s, req)
	if err == nil {
		if never := neverFits(b.amount(), s.main.ticket.want, m.room.all, m.cfg.HardCPU); never != "" {
			err = engine.Errorf(engine.NoCapacity, "%s", never)
		} else if never := neverShared(b.amount(), s.main.ticket.want, 1, s.shares); never != "" {
			err = engine.Errorf(engine.NoCapacity, "%s", never)
		}
	}
	if err == nil {
		ws, err = s.accept(b, slices.Repeat([]lineage{{attempt: 1}}, req.N))
	}
	switch kind := engine.KindOf(err); {
	case err == nil:
	case kind == engine.Internal || kind == engine.Conflict:
		return api.Workers{}, nothing, wrap("launch workers", err)
	default:
		return s.refuse(ctx, b, req.N, err), nothing, nil
	}
	s.admitNew(ctx, ws)
	failpoint.Here("launch: before reply")
	return api.Workers{Workers: m.describe(ws)}, sync.OnceFunc(func() { s.release(ws) }), nil
}

// open is an error if nothing can be launched any more.
func (s *session) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return engine.Errorf(engine.Conflict, "session %s has ended", s.id.Short())
	}
	return nil
}

// prepare checks what is asked and makes what all workers of the launch have in common. The batch is for descriptions even
// with an error.
func (m *Manager) prepare(ctx context.Context, s *session, req api.LaunchWorkers) (*batch, error) {
	fill(&req.CPU, &req.Memory, &req.GPUs, s.settings.Worker)
	if req.OrElse {
		fill(&req.CPU, &req.Memory, &req.GPUs, project.Size{CPU: 1, Memory: 1})
	}
	b := &batch{name: req.Name, role: engine.RoleWorker, cpu: req.CPU, memory: req.Memory, gpus: req.GPUs, group: req.Group, key: req.Key}
	if b.name == "" {
		b.name = defaultWorkerName
	}
	own := s.main.batch.kernel
	b.kernel = s.kernelOf(req.Kernel, req.Script, own)
	err := checkWorkers(&req)
	if err == nil {
		b.terms, err = termsOf(req)
	}
	if err != nil {
		if !finite(b.cpu) {
			b.cpu = 0 // JSON cannot say it, and the message does
		}
		if !finite(b.memory) {
			b.memory = 0
		}
		b.name, b.group, b.kernel = cut(b.name, maxName), cut(b.group, maxName), engine.Kernel(cut(string(b.kernel), maxName))
		return b, err
	}
	from, err := s.from()
	if err != nil {
		return b, err
	}
	some := newWorker(s, b, s.id, s.main.addr, s.created) // who it is does not matter here
	w := &work{env: req.Env}
	r := kernel.Request{
		Kernel: b.kernel, Script: s.script(req.Script), Code: req.Code, Project: s.project, Own: s.settings.Kernels,
		Preload: s.settings.Preload,
		Env:     m.environment(s, some, w, from), SearchEnv: from.search, // not Env: an engine wrote that, and the search runs on the host
		Shared: s.shared, For: s.behalf,
	}
	if s.interpreter != "" {
		r.Interpreter = map[engine.Kernel]string{own: s.interpreter}
	}
	w.command, err = m.cfg.Kernels.Prepare(ctx, r)
	if err != nil {
		return b, err
	}
	b.kernel, b.work = w.command.Kernel, w
	return b, checkExec(w.command.Argv, m.environment(s, some, w, from))
}

// from is where the session came from, an error if it has ended.
func (s *session) from() (*origin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.origin == nil {
		return nil, engine.Errorf(engine.Conflict, "session %s has ended", s.id.Short())
	}
	return s.origin, nil
}

// refuse answers a launch of which nothing can be accepted, and says so in the console.
func (s *session) refuse(ctx context.Context, b *batch, n int, err error) api.Workers {
	message := refusal(err)
	now := s.m.now()
	reply := api.Workers{Workers: make([]api.Worker, 0, n)}
	for range n {
		reply.Workers = append(reply.Workers, refused(b, s.site, s.id, message, now))
	}
	s.noteRefused(ctx, b, n, message)
	return reply
}

// refusal is what a refused worker's description says.
func refusal(err error) string {
	message := err.Error()
	if hint := engine.HintOf(err); hint != "" {
		message += " (" + hint + ")"
	}
	return cut(message, maxRefusal) // it may be in thousands of descriptions
}

func (s *session) noteRefused(ctx context.Context, b *batch, n int, message string) {
	s.note(ctx, api.Event{
		Type: "refused", Name: b.name, Role: string(engine.RoleWorker), Message: count(n, "worker") + " refused: " + message,
	})
}

// cut shortens a text of somebody's to what may be repeated.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// accept gives workers ids and addresses and enters them, one for each lineage.
func (s *session) accept(b *batch, from []lineage) ([]*worker, error) {
	seats, waiting, kind, err := s.seats(b, len(from))
	if err != nil {
		return nil, err
	}
	now := s.m.now()
	ws := make([]*worker, len(from))
	addrs := make([]netip.Addr, len(from))
	for i, seat := range seats {
		ws[i], addrs[i] = newWorker(s, b, seat.ID, seat.Address, now), seat.Address
		ws[i].lineage, ws[i].kind, ws[i].seated = from[i], kind, i < waiting
	}
	ts := make([]*ticket, len(ws))
	for i, w := range ws {
		ts[i] = &w.ticket
	}
	if err := s.m.room.count(boundsOf(s.settings.Limits), ts); err != nil {
		s.place.Release(addrs...)
		return nil, err
	}
	if err := s.enter(b, ws); err != nil {
		admit(s.m.room.release(ts))
		s.place.Release(addrs...)
		return nil, err
	}
	return ws, nil
}

// enter records a launch and then makes it known, all of it or nothing.
func (s *session) enter(b *batch, ws []*worker) error {
	s.recording.Lock() // a stop is answered when its end is recorded, and then no attempt that it came before may be on record
	defer s.recording.Unlock()
	if err := s.stoppedBefore(ws); err != nil { // before it is recorded: that stop may be answered, and this server be killed before it takes a record back
		return err
	}
	failpoint.Here("launch: before record")
	drop, err := s.recordBatch(b, ws)
	if err != nil {
		return err
	}
	failpoint.Here("launch: after record")
	if err = s.add(b, ws); err != nil {
		drop()
	}
	return err
}

// stoppedBefore is an error if one of these attempts follows a worker that somebody stopped.
func (s *session) stoppedBefore(attempts []*worker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stoppedBeforeLocked(attempts)
}

func (s *session) stoppedBeforeLocked(attempts []*worker) error {
	if slices.ContainsFunc(attempts, func(w *worker) bool { return w.previous != "" && !s.byID[w.previous].retrying }) {
		return engine.Errorf(engine.Conflict, "it was stopped")
	}
	return nil
}

// add enters workers of a batch, all or none.
func (s *session) add(b *batch, ws []*worker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := int64(0)
	if !b.held {
		bytes = b.work.size()
		s.shedLocked(bytes)
	}
	stopped := s.stoppedBeforeLocked(ws)
	switch {
	case s.ending:
		return engine.Errorf(engine.Conflict, "session %s has ended", s.id.Short())
	case b.work == nil:
		return errForgotten
	case stopped != nil:
		return stopped
	case len(s.workers)+len(ws) > maxWorkers:
		return engine.Errorf(engine.NoCapacity, "the session has launched %d workers, and %d more would be over %d, the most that a session may",
			len(s.workers), len(ws), maxWorkers).WithHint("start another session")
	case s.work+bytes > maxWork:
		return engine.Errorf(engine.NoCapacity, "the code and environments of the session's workers that have not ended would have %s, at most %s are allowed",
			size(s.work+bytes), size(maxWork)).WithHint("write them to files in the project, or wait until workers have ended")
	}
	if !b.held {
		b.held, b.size, s.work = true, bytes, s.work+bytes
	}
	b.live += len(ws)
	for _, w := range ws {
		s.byID[w.id] = w
	}
	s.workers = append(s.workers, ws...)
	for _, w := range ws {
		if w.previous != "" {
			s.followLocked(w)
		}
	}
	return nil
}

// admitNew asks for the workers' room and says in the console what is to be said of it.
func (s *session) admitNew(ctx context.Context, ws []*worker) {
	ts := make([]*ticket, len(ws))
	for i, w := range ws {
		ts[i] = &w.ticket
	}
	admitted, crowded := s.m.room.enter(ts)
	admit(admitted)
	var first *worker
	waiting := 0
	s.mu.Lock()
	for _, w := range ws {
		if !w.admitted && w.status == engine.Scheduling {
			if waiting++; first == nil {
				first = w
			}
		}
	}
	s.mu.Unlock()
	if waiting > 0 {
		verb := " wait: each "
		if waiting == 1 {
			verb = " waits: it "
		}
		s.note(ctx, api.Event{
			Type: "waiting", Engine: string(first.id), Name: first.batch.name, Role: string(engine.RoleWorker),
			Message: count(waiting, "worker") + verb + waitsFor(&first.ticket, s.m.room.standing()),
		})
	}
	if crowded && !s.m.cfg.HardCPU {
		s.note(ctx, api.Event{Type: "notice", Message: s.m.room.crowd()})
	}
}

// release lets the workers of a launch begin: those that have their room now, the others when they get it.
func (s *session) release(ws []*worker) {
	failpoint.Here("launch: after reply")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range ws {
		if !w.released { // an answer that is given again releases again
			w.released = true
			s.readyLocked(w)
		}
	}
}
