package local

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/pidfd"
)

// errEnded answers whoever wants something of a session that is gone.
var errEnded = driver.ErrEnding

// request sends a request, with files beside it, and waits for the keeper's answer.
func (s *session) request(ctx context.Context, r wire.Request, files ...*os.File) (reply, error) {
	answer := make(chan reply, 1)
	s.mu.Lock()
	s.seq++
	r.Seq = s.seq
	s.waiting[r.Seq] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, r.Seq)
		s.mu.Unlock()
	}()
	if err := s.conn.Send(r, files...); errors.Is(err, wire.ErrTooLong) {
		return reply{}, engine.Errorf(engine.Invalid, "%s for engine %s: %v", r.Op, r.Engine, err)
	} else if err != nil {
		return reply{}, errEnded
	}
	select {
	case a := <-answer:
		return a, errorOf(a.event)
	case <-s.lost:
		select {
		case a := <-answer: // its last word
			return a, errorOf(a.event)
		default:
			return reply{}, errEnded
		}
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// errorOf makes the error of an answer that is one.
func errorOf(e wire.Event) error {
	if e.Error == "" {
		return nil
	}
	kind := engine.Internal
	switch e.ErrKind {
	case wire.ErrNotFound:
		kind = engine.NotFound
	case wire.ErrConflict:
		kind = engine.Conflict
	case wire.ErrEnding:
		return errEnded
	}
	return engine.Errorf(kind, "%s", e.Error)
}

// receive takes what the keeper tells, first what it told already, until it is gone.
func (s *session) receive(told []wire.Event) {
	defer close(s.gone)
	for _, e := range told {
		s.take(e, nil)
	}
	for {
		var e wire.Event
		files, err := s.conn.Receive(&e)
		if err != nil {
			s.finish(err)
			return
		}
		s.take(e, files)
	}
}

func (s *session) take(e wire.Event, files []*os.File) {
	switch e.Kind {
	case wire.EventReply:
		s.mu.Lock()
		c := s.waiting[e.Seq]
		s.mu.Unlock()
		if c != nil {
			c <- reply{e, files}
			return
		}
	case wire.EventWrote:
		s.wrote()
	case wire.EventLive:
		close(s.live)
	case wire.EventAccepted:
		s.adopt(e)
	case wire.EventReady:
		s.seated(engine.ID(e.Engine), e.Apart)
	case wire.EventDropped:
		s.unseated(engine.ID(e.Engine), e.Signal)
	case wire.EventStale:
		s.stale(engine.ID(e.Engine))
	default:
		s.observe(e)
	}
	for _, f := range files { // nobody waits for them
		f.Close()
	}
}

func (s *session) wrote() {
	s.mu.Lock()
	quiet := s.detached || s.abandoned
	s.mu.Unlock()
	if s.spec.Wrote != nil && !quiet {
		s.spec.Wrote()
	}
}

func (s *session) observe(e wire.Event) {
	o := driver.Observation{Engine: engine.ID(e.Engine), At: e.At, Exit: exitOf(e.Exit), Text: e.Text}
	switch e.Kind {
	case wire.EventStarted:
		o.Kind = driver.Started
		s.mu.Lock()
		m, known := s.engines[o.Engine]
		if m.pid = e.Pid; known {
			s.engines[o.Engine] = m
		}
		s.mu.Unlock()
		if known && m.adopted {
			s.reopen(o.Engine, m)
		}
	case wire.EventExited:
		o.Kind = driver.Exited
		s.mu.Lock()
		m, known := s.engines[o.Engine]
		delete(s.engines, o.Engine)
		s.stirLocked(0)
		s.stirs.ended = time.Now()
		s.mu.Unlock()
		if known {
			m.closeInside() // it holds the engine's network
			s.Release(m.address)
		}
	case wire.EventNotice:
		o.Kind = driver.Notice
	case wire.EventEnded:
		o.Kind = driver.Ended // observed when it is true
		s.mu.Lock()
		s.ended = &o
		s.mu.Unlock()
		return
	default:
		return
	}
	s.tell(o)
}

func (s *session) tell(o driver.Observation) {
	s.mu.Lock()
	quiet := s.detached || s.abandoned
	s.mu.Unlock()
	if !quiet {
		s.spec.Observe(o)
	}
}

// finish is called once the connection to the keeper ended. Ended is observed exactly once, also when the keeper was
// killed; but not by who let go of the session or could not open it.
func (s *session) finish(cause error) {
	close(s.lost)
	s.mu.Lock()
	ended, detached, abandoned := s.ended, s.detached, s.abandoned
	s.mu.Unlock()
	if detached {
		if s.keeper != nil {
			s.keeper.Process.Release()
		}
		s.release()
		return
	}
	if s.keeper != nil {
		if !errors.Is(cause, io.EOF) {
			s.keeper.Process.Kill() // it speaks what nobody understands
		}
		s.keeper.Wait()
	}
	select {
	case <-s.live:
	default: // it never was a session
		abandoned = true
	}
	if abandoned {
		s.release()
		return
	}
	if ended == nil {
		ended = s.keeperKilled()
	}
	s.wrote() // whatever was still to be told
	s.release()
	s.driver.sweepGroups(s.spec.ID)               // an earlier server may have made one for an engine that it never handed over
	sweepPlainTmp(s.driver.sessionDir(s.spec.ID)) // of engines that ended just before their keeper was killed
	s.driver.removeOwn(s.spec.ID)
	s.tell(*ended)
}

// keeperKilled does what a keeper that did not say goodbye would have done: its inits ended with it, and what it would
// have removed is removed here.
func (s *session) keeperKilled() *driver.Observation {
	s.mu.Lock()
	live := s.engines
	s.engines = map[engine.ID]member{}
	s.mu.Unlock()
	exit := &engine.Exit{
		Reason: engine.ReasonKeeperLost, Code: 137, Signal: 9, At: time.Now(),
		Message: "the session's keeper was killed, and the session with it",
	}
	for id, slot := range s.emptySlots() {
		s.sweep(id, slot.member)
		slot.closeInside()
	}
	for id, m := range live {
		s.sweep(id, m)
		m.closeInside()
		s.Release(m.address)
		s.tell(driver.Observation{Kind: driver.Exited, Engine: id, At: exit.At, Exit: exit})
	}
	return &driver.Observation{Kind: driver.Ended, At: exit.At, Exit: exit}
}

// initEndsIn is how long a killed keeper's inits have to end: they notice at once, and have only to kill.
const initEndsIn = 2 * time.Second

// sweep removes what a killed keeper left of an engine, when its processes have ended.
func (s *session) sweep(id engine.ID, m member) {
	groups := []*cgroup.Group{s.driver.elsewhere(s.spec.ID, id)}
	if s.driver.tree != nil {
		group, _ := s.driver.tree.Open(groupName(s.spec.ID, id)) // an error: that is no name
		groups = append(groups, group)
	}
	for _, g := range groups {
		if g != nil {
			endGroup(g, initEndsIn)
			g.Remove()
		}
	}
	if m.pid > 0 { // where there are no control groups
		awaitEnd(m.pid, initEndsIn)
	}
	removePlainTmp(id)
	os.RemoveAll(s.engineDir(id))
}

// awaitEnd waits until a process is gone that is no child of ours.
func awaitEnd(pid int, limit time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	pidfd.Ended(fd, limit)
}

func groupName(session, id engine.ID) string { return string(session) + "-" + string(id) }

func exitOf(x *wire.Exit) *engine.Exit {
	if x == nil {
		return nil
	}
	return &engine.Exit{
		Reason: engine.Reason(x.Reason), Code: x.Code, Signal: x.Signal, Message: x.Message, By: x.By, Step: x.Step,
		MemoryLimitBytes: x.MemoryLimitBytes, MemoryPeakBytes: x.MemoryPeakBytes, CPUNanos: x.CPUNanos,
		TimeLimitNanos: x.TimeLimitNanos, At: x.At,
	}
}

func randomLoopback() netip.Addr {
	var b [2]byte
	rand.Read(b[:])
	return netip.AddrFrom4([4]byte{127, 10 + b[0]%200, b[1], 1})
}

func (d *Driver) hiddenDirs() []string {
	return append([]string{filepath.Clean(d.config.Dir)}, d.config.Hidden...)
}
