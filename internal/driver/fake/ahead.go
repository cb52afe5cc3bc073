package fake

import (
	"time"

	"muster/engine"
	"muster/internal/driver"
)

// The fake has engines wait at once, and makes up for those that were taken at once. Options.Claim says whether it declares that.

// crew are the engines of a kind that wait.
type crew struct {
	want int
	make func(driver.Seat) driver.Spec
	wait []driver.Spec

	making chan struct{} // closed when its zygote is made, or not
	forks  bool
}

// zygoteLocked ends the making of a zygote.
func (c *crew) zygoteLocked(forks bool) {
	if c.making != nil {
		c.forks = forks
		close(c.making)
		c.making = nil
	}
}

// Warm implements driver.Warmer.
func (s *session) Warm(kind driver.Kind, n int, spec func(driver.Seat) driver.Spec) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.crews[kind]
	if c == nil {
		c = &crew{}
		p.crews[kind] = c
	}
	c.want, c.make = n, spec
	for len(c.wait) > n {
		last := len(c.wait) - 1
		delete(p.addrs, c.wait[last].Address)
		c.wait = c.wait[:last]
	}
	if n == 0 {
		c.zygoteLocked(false)
		delete(p.crews, kind)
		return
	}
	p.fillLocked(c)
}

func (p *place) fillLocked(c *crew) {
	for len(c.wait) < c.want && !p.closing {
		addrs, err := p.reserveLocked(1)
		if err != nil {
			return
		}
		c.wait = append(c.wait, c.make(driver.Seat{ID: engine.NewID(), Address: addrs[0]}))
	}
}

// Take implements driver.Warmer.
func (s *session) Take(kind driver.Kind, n int) (seats []driver.Seat) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	take := func(c *crew) {
		some := min(n-len(seats), len(c.wait))
		for _, w := range c.wait[:some] {
			seats = append(seats, driver.Seat{ID: w.ID, Address: w.Address})
		}
		c.wait = c.wait[some:]
		p.fillLocked(c)
	}
	if own := p.crews[kind]; own != nil {
		take(own)
	}
	for k, c := range p.crews {
		if k != kind && (kind == driver.Kind{} || k.Takes(kind, c.forks)) {
			take(c)
		}
	}
	return seats
}

// Waiting implements driver.Warmer.
func (s *session) Waiting(kind driver.Kind) int { return len(s.Ahead(kind)) }

// Forks implements driver.Warmer.
func (s *session) Forks(kind driver.Kind) bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for k, c := range s.p.crews {
		if c.forks && k.Takes(kind, true) {
			return true
		}
	}
	return false
}

// Zygote implements driver.Warmer: one is made as long as StepZygote is delayed, where that is.
func (s *session) Zygote(kind driver.Kind) <-chan struct{} {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	c := s.p.crews[kind]
	takes := s.p.opts.delay(StepZygote, ofSession(s.p.spec.ID))
	if c == nil || c.forks || takes == 0 {
		return nil
	}
	if c.making == nil {
		c.making = make(chan struct{})
		time.AfterFunc(takes, func() {
			s.p.mu.Lock()
			defer s.p.mu.Unlock()
			c.zygoteLocked(s.p.opts.fail(StepZygote, ofSession(s.p.spec.ID)) == nil)
		})
	}
	return c.making
}

// Ahead returns the specs of the engines of a kind that wait; of all kinds, if it is the zero Kind.
func (s *session) Ahead(kind driver.Kind) (waiting []driver.Spec) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for k, c := range s.p.crews {
		if kind == (driver.Kind{}) || kind == k {
			waiting = append(waiting, c.wait...)
		}
	}
	return waiting
}

// Ahead returns the specs of a session's engines that wait for work.
func (d *Driver) Ahead(id engine.ID) []driver.Spec {
	p := d.opts.World.place(id)
	if p == nil {
		return nil
	}
	return (&session{p, d.closing}).Ahead(driver.Kind{})
}

// Spec returns what an engine of a session was started with.
func (d *Driver) Spec(session, id engine.ID) driver.Spec {
	p := d.opts.World.place(session)
	if p == nil {
		return driver.Spec{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr := p.procs[id]; pr != nil {
		return pr.spec
	}
	return driver.Spec{}
}
