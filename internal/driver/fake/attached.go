package fake

import (
	"net/netip"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// attach begins the log of a session whose own process lives outside. It has an address, but no engine reaches it there:
// the fake's network is none that processes could use.
func (p *place) attach() error {
	a := p.spec.Attached
	if a == nil {
		return nil
	}
	addrs, err := p.reserve(1)
	if err != nil {
		return err
	}
	p.attached = addrs[0]
	return p.frame(api.Event{Type: "engine", Name: a.Name, Role: string(engine.RoleSession), Address: p.attached.String()})
}

// frame appends an event of the session's own process.
func (p *place) frame(e api.Event) error {
	e.Engine = string(p.spec.ID)
	return p.note(event(e))
}

func (p *place) note(event []byte) error {
	log, err := p.writer.Log(string(p.spec.ID))
	if err == nil {
		err = log.Append(console.Event, 0, time.Now(), event)
	}
	p.wrote()
	return err
}

// farewell ends that log.
func (p *place) farewell(why engine.Exit) {
	if p.spec.Attached != nil && !p.silent.Load() {
		p.frame(api.Event{Type: "exit", Reason: string(why.Reason), Message: why.Message, Status: string(why.Status()), Ending: ending(why, nil)})
	}
}

// Address implements driver.Session.
func (s *session) Address() netip.Addr { return s.p.attached }
