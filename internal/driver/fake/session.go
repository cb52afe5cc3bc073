package fake

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

// session implements driver.Session over a place.
type session struct {
	p       *place
	closing context.Context // its driver's
}

func (s *session) Handle() driver.Handle {
	return driver.Handle{Version: 1, Session: s.p.spec.ID}
}

func (s *session) Listen(ctx context.Context, port int) (net.Listener, netip.AddrPort, error) {
	if err := pause(ctx, s.p.opts.delay(StepListen, ofSession(s.p.spec.ID))); err != nil {
		return nil, netip.AddrPort{}, err
	}
	if err := s.p.opts.fail(StepListen, ofSession(s.p.spec.ID)); err != nil {
		return nil, netip.AddrPort{}, err
	}
	l, err := s.p.network.listen(gateway, port)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return l, l.at, nil
}

func (s *session) Reserve(n int) ([]netip.Addr, error) {
	if err := s.p.opts.fail(StepReserve, ofSession(s.p.spec.ID)); err != nil {
		return nil, err
	}
	return s.p.reserve(n)
}

// Keep implements driver.Session.
func (s *session) Keep(ctx context.Context, proposed []byte) ([]byte, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.secret == nil {
		s.p.secret = proposed
	}
	return s.p.secret, nil
}

func (s *session) Release(addrs ...netip.Addr) { s.p.release(addrs...) }

func (s *session) Start(ctx context.Context, specs []driver.Spec) []error {
	errs := make([]error, len(specs))
	for i, spec := range specs {
		errs[i] = s.start(ctx, spec)
	}
	return errs
}

func (s *session) start(ctx context.Context, spec driver.Spec) error {
	p := s.p
	if err := pause(ctx, p.opts.delay(StepAccept, spec)); err != nil {
		return err
	}
	if err := p.opts.fail(StepAccept, spec); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closing || p.headless:
		return driver.ErrEnding
	case p.procs[spec.ID] != nil:
		return engine.Errorf(engine.Conflict, "engine %s was started already", spec.ID)
	case !p.addrs[spec.Address]:
		return engine.Errorf(engine.Invalid, "address %s was not reserved", spec.Address)
	}
	if _, err := p.writer.Log(string(spec.ID)); err != nil {
		return err
	}
	pr := newProc(p, spec)
	p.procs[spec.ID] = pr
	go pr.run() // the place's end waits for it
	return nil
}

func (s *session) Signal(ctx context.Context, id engine.ID, signal int) error {
	pr, err := s.p.alive(id)
	if err != nil {
		return err
	}
	pr.signal(signal)
	return nil
}

func (s *session) Resize(ctx context.Context, id engine.ID, size driver.TerminalSize) error {
	pr, err := s.p.proc(id)
	if err != nil {
		return err
	}
	return pr.resize(size)
}

func (s *session) Stop(ctx context.Context, id engine.ID, grace time.Duration, reason engine.Reason, by string) error {
	pr, err := s.p.proc(id)
	if err != nil {
		return err
	}
	pr.stop(grace, reason, by)
	return nil
}

func (s *session) Note(ctx context.Context, id engine.ID, event []byte) error {
	if s.p.spec.Attached != nil && id == s.p.spec.ID {
		return s.p.note(event)
	}
	pr, err := s.p.proc(id)
	if err != nil {
		return err
	}
	return pr.write(console.Event, event)
}

func (s *session) Dial(ctx context.Context, id engine.ID, port int) (net.Conn, error) {
	pr, err := s.p.proc(id)
	if err != nil {
		return nil, err
	}
	c, err := s.p.network.dial(ctx, netip.AddrPortFrom(pr.spec.Address, uint16(port)), false)
	if err != nil {
		return nil, fmt.Errorf("nobody listens on 127.0.0.1:%d in engine %s: %w", port, id.Short(), err)
	}
	return c, nil
}

func (s *session) End(ctx context.Context, grace time.Duration, by string) error {
	return s.p.end(ctx, grace, engine.Exit{
		Reason: engine.ReasonStopped, By: by, Signal: int(syscall.SIGTERM), Message: "the session was ended by " + by,
	}, by)
}
