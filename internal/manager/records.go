package manager

import (
	"context"
	"encoding/json"
	"strconv"

	"muster/engine"
	"muster/internal/failpoint"
	"muster/internal/project"
	"muster/internal/store"
)

// What a later server needs of a session is recorded before anybody is told of it: the session when its place is open, a
// launch before it is answered. How engines ended the driver knows as long as the session lives, and the console for ever, so
// that those records may come a little later; but the ends that nobody else knows of, of workers that never started, are
// recorded before the answer to who stopped them. What is secret is sealed with a key that only the session's place holds.

// sessionSecret is the sealed part of a session's record.
type sessionSecret struct {
	Key      string            `json:"key"`
	Base     map[string]string `json:"base"`
	Search   map[string]string `json:"search"`
	Settings project.Settings  `json:"settings"`
}

// batchSecret is that of a launch.
type batchSecret struct {
	Env     map[string]string `json:"env"`
	Command json.RawMessage   `json:"command"` // kernel.Command
}

// records reports whether anything outlives this process.
func (m *Manager) records() bool { return m.cfg.Records != nil }

// record makes a session known to later servers.
func (s *session) record(ctx context.Context, lease string, pid int) error {
	if !s.m.records() {
		return nil
	}
	key, err := s.place.Keep(ctx, store.NewKey())
	if err != nil {
		return err
	}
	s.seal = key
	secret, err := sealed(key, string(s.id), sessionSecret{s.key, s.origin.base, s.origin.search, s.settings})
	if err != nil {
		return err
	}
	b := s.main.batch
	err = s.m.cfg.Records.AddSession(store.Session{
		ID: s.id, Kind: s.kind, Name: s.name, Project: s.project, Created: s.created, Boot: s.m.cfg.Boot, Kernel: b.kernel,
		CPU: b.cpu, Memory: b.memory, GPUs: b.gpus, Address: s.main.addr, API: s.url, Web: s.m.cfg.Web, Interpreter: s.interpreter, Shared: s.shared,
		ProjectName: s.settings.Name, Owner: s.settings.Owner, Lease: lease, Terminal: s.terminal, TTY: s.tty != nil,
		Stdin: s.stdin, PID: pid, User: s.recordedUser(),
	}, secret)
	s.mu.Lock()
	s.recorded = err == nil
	s.mu.Unlock()
	return err
}

// recordBatch makes workers of a launch known to later servers, all of them or none: those of the launch itself, or others that do
// its work again.
func (s *session) recordBatch(b *batch, ws []*worker) (drop func(), err error) {
	if !s.m.records() {
		return func() {}, nil
	}
	s.mu.Lock()
	s.batches++
	number, of, work, now := s.batches, b.number, b.work, ws[0].created
	s.mu.Unlock()
	if work == nil {
		return nil, errForgotten
	}
	drop = func() { s.m.logged("forget a launch", s.m.cfg.Records.DropBatch(s.id, number)) }
	r := store.Batch{Number: number, Of: of, Created: now}
	for _, w := range ws {
		r.Workers = append(r.Workers, store.Worker{
			ID: w.id, Address: w.addr, Attempt: w.attempt, First: w.first, Previous: w.previous, RestartOf: w.restartOf,
			NotBefore: w.notBefore,
		})
	}
	if of != 0 {
		return drop, s.m.cfg.Records.AddBatch(s.id, r, nil)
	}
	r.Name, r.Kernel, r.CPU, r.Memory, r.GPUs = b.name, b.kernel, b.cpu, b.memory, b.gpus
	r.Key, r.Group, r.Retries, r.TimeLimit = b.key, b.group, b.retries, b.timeLimit
	command, err := json.Marshal(work.command)
	if err != nil {
		return nil, err
	}
	secret, err := sealed(s.seal, batchName(s.id, number), batchSecret{work.env, command})
	if err != nil {
		return nil, err
	}
	if err := s.m.cfg.Records.AddBatch(s.id, r, secret); err != nil {
		return nil, err
	}
	s.mu.Lock()
	b.number = number
	s.mu.Unlock()
	return drop, nil
}

// batchName is what a launch's secret is bound to.
func batchName(session engine.ID, number int) string {
	return string(session) + "/" + strconv.Itoa(number)
}

func sealed(key []byte, name string, secret any) ([]byte, error) {
	plain, err := json.Marshal(secret)
	if err != nil {
		return nil, err
	}
	return store.Seal(key, plain, name)
}

func unseal(key, sealed []byte, name string, into any) error {
	plain, err := store.Unseal(key, sealed, name)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, into)
}

// endRecord is how a worker ended, for the records.
func (w *worker) endRecordLocked() store.End {
	return store.End{
		Engine: w.id, Status: w.status, Exit: *w.exit, Starting: w.starting, Running: w.running, Stopping: w.stopping, Finished: w.finished,
		Retrying: w.retrying,
	}
}

// unrecordedLocked has an end recorded, soon.
func (s *session) unrecordedLocked(w *worker) {
	if s.recorded {
		s.unrecorded = append(s.unrecorded, w)
		s.wakeLocked()
	}
}

// takeEnds returns the ends that were not recorded yet.
func (s *session) takeEnds() (ends []store.End, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.unrecorded {
		ends = append(ends, w.endRecordLocked())
	}
	s.unrecorded = nil
	return ends, s.ended
}

// recordEnds records the ends that were not yet, one caller at a time: who comes while another does it waits for that.
func (s *session) recordEnds() error {
	if !s.m.records() {
		return nil
	}
	s.recording.Lock()
	defer s.recording.Unlock()
	ends, over := s.takeEnds()
	if over = over && !s.endRecorded; len(ends) == 0 && !over {
		return nil
	}
	failpoint.Here("end: before record")
	var err error
	if over {
		err = s.m.cfg.Records.EndSession(s.id, ends)
		s.endRecorded = err == nil
	} else {
		err = s.m.cfg.Records.AddEnds(s.id, ends)
	}
	failpoint.Here("end: after record")
	if err != nil { // the next one tries again; a later server asks the driver, or the console
		s.mu.Lock()
		for _, e := range ends {
			s.unrecorded = append(s.unrecorded, s.findLocked(e.Engine))
		}
		s.mu.Unlock()
	}
	return err
}

// unrecord takes a session's records back, of one that could not be created or is forgotten.
func (m *Manager) unrecord(id engine.ID) {
	if m.records() {
		m.logged("forget the records of session "+string(id), m.cfg.Records.Forget(id))
	}
}
