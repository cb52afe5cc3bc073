package local

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/netns"
)

// adopt takes an engine that was started through another process.
func (s *session) adopt(e wire.Event) {
	address, err := netip.ParseAddr(e.Address)
	if err != nil {
		return // a keeper that knows of no addresses
	}
	s.mu.Lock()
	if _, known := s.engines[engine.ID(e.Engine)]; !known {
		s.engines[engine.ID(e.Engine)] = member{address: address, adopted: true}
	}
	s.mu.Unlock()
	if s.hub != nil {
		s.hub.Name(e.Hostname, address) // a name that cannot be given again is no reason to give the engine up
	}
	s.tell(driver.Observation{
		Kind: driver.Accepted, Engine: engine.ID(e.Engine), At: e.At, Held: &driver.Held{GPUs: e.GPUs, Cores: e.Cores},
	})
}

// reopen opens what the process that started an adopted engine had open for it: its network, by its init, and what it finds on its
// loopback. An engine for which that fails goes on without. The init may have ended since the keeper told of it, and its number be
// another's: who is the keeper's child after its network was opened, was it before.
func (s *session) reopen(id engine.ID, m member) {
	if s.hub == nil || m.pid == 0 {
		return
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
	if err != nil {
		return // it has just ended
	}
	defer ns.Close()
	if keeper, err := s.conn.Peer(); err != nil || parentOf(m.pid) != keeper {
		return
	}
	if m.net, err = inode(ns); err != nil {
		return
	}
	if s.spec.Inside != nil {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(s.spec.Inside.Port))
		if m.inside, err = netns.ListenTCP(ns, at); err != nil {
			s.tell(driver.Observation{Kind: driver.Notice, Engine: id, At: time.Now(), Text: fmt.Sprintf(
				"engine %s does not find the server at %s any more: %v", id.Short(), at, err)})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.engines[id]; !there || s.released {
		m.closeInside()
		return
	}
	s.engines[id] = m
	if m.inside != nil {
		s.serving.Go(func() { s.spec.Inside.Serve(m.inside) })
	}
}

// parentOf is the process that a process is a child of; 0 if there is none.
func parentOf(pid int) (parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "\nPPid:")
	fmt.Sscan(rest, &parent)
	return parent
}
