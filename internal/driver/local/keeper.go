package local

import (
	"context"
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
)

// errKeeperGone answers requests to a keeper that is gone.
var errKeeperGone = engine.Errorf(engine.Unavailable, "the session has ended")

// request sends a request, with files beside it, and waits for the keeper's answer.
func (s *session) request(ctx context.Context, r wire.Request, files ...*os.File) (reply, error) {
	answer := make(chan reply, 1)
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return reply{}, errKeeperGone
	}
	s.seq++
	r.Seq = s.seq
	s.waiting[r.Seq] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, r.Seq)
		s.mu.Unlock()
	}()
	if err := s.conn.Send(r, files...); err != nil {
		return reply{}, errKeeperGone
	}
	select {
	case a := <-answer:
		if a.event.Error != "" {
			kind := engine.Internal
			if a.event.ErrKind == "not_found" {
				kind = engine.NotFound
			}
			return a, engine.Errorf(kind, "%s", a.event.Error)
		}
		return a, nil
	case <-s.gone:
		return reply{}, errKeeperGone
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// receive reads what the keeper says until it is gone. Ended is observed exactly once, also when the keeper was killed.
func (s *session) receive() {
	defer close(s.gone)
	for {
		var e wire.Event
		files, err := s.conn.Receive(&e)
		if err != nil {
			break
		}
		switch e.Kind {
		case wire.EventReply:
			s.mu.Lock()
			c := s.waiting[e.Seq]
			s.mu.Unlock()
			if c != nil {
				c <- reply{e, files}
			}
		case wire.EventWrote:
			s.wrote()
		default:
			s.observe(e)
		}
	}
	s.keeperGone()
}

func (s *session) wrote() {
	if s.spec.Wrote != nil {
		s.spec.Wrote()
	}
}

func (s *session) observe(e wire.Event) {
	o := driver.Observation{Engine: engine.ID(e.Engine), At: e.At, Exit: exitOf(e.Exit), Text: e.Text}
	switch e.Kind {
	case wire.EventStarted:
		o.Kind = driver.Started
		s.mu.Lock()
		s.pids[o.Engine] = e.Pid
		s.mu.Unlock()
	case wire.EventExited:
		o.Kind = driver.Exited
		s.engineGone(o.Engine)
	case wire.EventNotice:
		o.Kind = driver.Notice
	case wire.EventEnded:
		o.Kind = driver.Ended
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.wrote() // whatever was still to be told
	default:
		return
	}
	s.spec.Observe(o)
}

func (s *session) engineGone(id engine.ID) {
	s.mu.Lock()
	spec, known := s.started[id]
	delete(s.started, id)
	delete(s.pids, id)
	s.mu.Unlock()
	if known {
		s.Release(spec.Address)
	}
}

// keeperGone is called once the connection to the keeper ended. If the keeper did not say goodbye it was killed: every
// init ended with it, and what it would have removed is removed here.
func (s *session) keeperGone() {
	s.mu.Lock()
	lost := !s.over
	s.over = true
	live := make([]driver.Spec, 0, len(s.started))
	for _, spec := range s.started {
		live = append(live, spec)
	}
	s.mu.Unlock()
	if lost {
		exit := &engine.Exit{
			Reason: engine.ReasonKeeperLost, Code: 137, Signal: 9, At: time.Now(),
			Message: "the session's keeper was killed, and the session with it",
		}
		for _, spec := range live {
			s.sweep(spec.ID)
			s.engineGone(spec.ID)
			s.spec.Observe(driver.Observation{Kind: driver.Exited, Engine: spec.ID, At: exit.At, Exit: exit})
		}
		s.wrote()
		s.spec.Observe(driver.Observation{Kind: driver.Ended, At: exit.At, Exit: exit})
	}
	s.release()
}

// sweep removes what a killed keeper left of an engine. Its processes are about to end; the cgroup can be removed when
// they have.
func (s *session) sweep(id engine.ID) {
	if s.driver.tree != nil {
		if g, err := s.driver.tree.Open(groupName(s.spec.ID, id)); err == nil {
			g.Remove()
		}
	}
	os.RemoveAll(s.engineDir(id))
}

func groupName(session, id engine.ID) string { return string(session) + "-" + string(id) }

func exitOf(x *wire.Exit) *engine.Exit {
	if x == nil {
		return nil
	}
	return &engine.Exit{
		Reason: engine.Reason(x.Reason), Code: x.Code, Signal: x.Signal, Message: x.Message, By: x.By, Step: x.Step,
		MemoryLimitBytes: x.MemoryLimitBytes, MemoryPeakBytes: x.MemoryPeakBytes, CPUNanos: x.CPUNanos, At: x.At,
	}
}

func randomLoopback() netip.Addr {
	var b [2]byte
	rand.Read(b[:])
	return netip.AddrFrom4([4]byte{127, 10 + b[0]%200, b[1], 1})
}

func (s *session) hiddenDirs() []string {
	return append([]string{filepath.Clean(s.driver.config.Dir)}, s.driver.config.Hidden...)
}
