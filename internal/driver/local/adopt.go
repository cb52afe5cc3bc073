package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/hub"
	"muster/internal/linux/netns"
)

// Recover implements driver.Driver. The lease is the keeper's: a new one is not taken.
func (d *Driver) Recover(ctx context.Context, spec driver.SessionSpec, h driver.Handle) (_ driver.Session, err error) {
	defer func() {
		if engine.KindOf(err) == engine.NotFound {
			d.sweepGroups(h.Session) // that of an engine of which its keeper was never told
		}
	}()
	if spec.Owner != nil {
		spec.Owner.Close()
	}
	spec.ID, spec.Owner = h.Session, nil
	conn, config, err := d.take(ctx, h.Session)
	if err != nil {
		return nil, err
	}
	if err := d.fits(conn, config); err != nil {
		conn.Close()
		return nil, err
	}
	if a := config.Attached; a != nil {
		spec.Attached = &driver.Attached{Name: a.Name, PID: a.PID, UID: a.UID} // it lives, for the keeper does
	}
	s := newSession(d, spec)
	s.conn = conn
	var told []wire.Event
	if config.HasHub {
		if told, err = s.adoptHub(ctx, config); err != nil {
			s.release()
			return nil, err
		}
	}
	if err := d.enter(s); err != nil {
		s.release()
		return nil, err
	}
	go s.receive(told)
	select {
	case <-s.live:
		s.settle()
		return s, nil
	case <-s.gone:
		return nil, errJustEnded(h.Session)
	case <-ctx.Done():
		s.detach()
		return nil, ctx.Err()
	}
}

// take makes this process the only one that a session's keeper listens to, and connects to it.
func (d *Driver) take(ctx context.Context, id engine.ID) (*wire.Conn, wire.KeeperConfig, error) {
	lost := func(err error) (*wire.Conn, wire.KeeperConfig, error) {
		if err := ctx.Err(); err != nil {
			return nil, wire.KeeperConfig{}, err
		}
		return nil, wire.KeeperConfig{}, unreached(id, err)
	}
	first, _, err := dial(d.sessionDir(id))
	if err != nil {
		return lost(err)
	}
	defer first.Close()
	defer context.AfterFunc(ctx, func() { first.Close() })()
	const seq = 1
	if err := first.Send(wire.Request{Seq: seq, Op: wire.OpTake}); err != nil {
		return lost(err)
	}
	for {
		var e wire.Event
		if _, err := first.Receive(&e); err != nil {
			return lost(err)
		}
		if e.Seq == seq {
			break // a keeper of before there was this operation says so: it is as well off without
		}
	}
	conn, config, err := dial(d.sessionDir(id))
	if err != nil {
		return lost(err)
	}
	return conn, config, nil
}

func errJustEnded(id engine.ID) error {
	return engine.Errorf(engine.NotFound, "session %s has just ended", id)
}

// unreached tells a keeper that is not there any more, whose session is lost, from one that this process cannot reach, for want of
// descriptors or memory.
func unreached(id engine.ID, err error) error {
	for _, gone := range []error{fs.ErrNotExist, unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE, io.EOF} {
		if errors.Is(err, gone) {
			return engine.Errorf(engine.NotFound, "session %s has no keeper any more: %v", id, err)
		}
	}
	return engine.Errorf(engine.Unavailable, "the keeper of session %s cannot be reached: %v", id, err)
}

// settle frees the addresses of engines that were being made when the process before this one was killed.
func (s *session) settle() {
	if s.hub == nil {
		return
	}
	var living []netip.Addr
	s.mu.Lock()
	for _, m := range s.engines {
		living = append(living, m.address)
	}
	s.mu.Unlock()
	s.inNetwork(func() error {
		s.hub.Settle(living, s.spec.Reserved)
		return nil
	})
}

// adoptHub asks the keeper for the session's network and opens it again. What the keeper told meanwhile is returned: it is
// to be observed when the network is there.
func (s *session) adoptHub(ctx context.Context, config wire.KeeperConfig) (told []wire.Event, err error) {
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	s.seq++
	failed := func(err error) error {
		if ctx.Err() != nil { // which closed the connection
			return ctx.Err()
		}
		return unreached(s.spec.ID, err)
	}
	if err := s.conn.Send(wire.Request{Seq: s.seq, Op: wire.OpHub}); err != nil {
		return nil, failed(err)
	}
	for {
		var e wire.Event
		files, err := s.conn.Receive(&e)
		if err != nil {
			return nil, failed(err)
		}
		if e.Seq != s.seq {
			told = append(told, e)
			continue
		}
		if len(files) != 1 {
			return nil, engine.Errorf(engine.Internal, "the keeper of session %s did not hand over its network: %s", s.spec.ID, e.Error)
		}
		prefix, err := netip.ParsePrefix(config.Network)
		if err != nil {
			files[0].Close()
			return nil, err
		}
		if s.hub, err = hub.Open(files[0], prefix); err != nil {
			files[0].Close()
			// Whatever it is, it is not that the session is not there.
			return nil, engine.Errorf(engine.Unavailable, "adopt the network of session %s: %v", s.spec.ID, err)
		}
		return told, s.serveHub()
	}
}

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
