package local

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/hub"
)

// sameNetwork checks that this process can reach the sockets of the one that is to be a session.
func sameNetwork(a *driver.Attached) error {
	if a == nil {
		return nil
	}
	same, err := inOurNetwork(a.PID)
	if err != nil {
		return engine.Errorf(engine.Invalid, "process %d cannot be attached: %v", a.PID, err).
			WithHint("it must run on the server's machine, as the server's user")
	}
	if !same {
		return engine.Errorf(engine.Invalid, "process %d cannot be attached: its network is not the server's, as in a container", a.PID).
			WithHint("start a server where the process runs: muster up")
	}
	return nil
}

// inOurNetwork finds out whether the sockets of this process are also that one's: a user namespace's processes may not look at
// the namespaces of those around it, but at the list of sockets that such a process sees (proc_pid_net(5)).
func inOurNetwork(pid int) (bool, error) {
	name := "@muster-" + rand.Text()
	l, err := net.Listen("unix", name)
	if err != nil {
		return false, err
	}
	defer l.Close()
	sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", pid))
	return strings.Contains(string(sockets), name), err
}

// newHub makes the session's network. The host leads into that of an attached session, so that its range is its own.
func (s *session) newHub() (*hub.Hub, error) {
	if s.spec.Attached != nil {
		return hub.NewLinked(s.driver.config.Network, string(s.spec.ID))
	}
	return hub.New(s.driver.network)
}

// Address implements driver.Session. Without a network of their own workers and process share the loopback, where what is bound to
// 0.0.0.0 and what is bound to 127.0.0.1 are both found at 127.0.0.1 alone.
func (s *session) Address() netip.Addr {
	switch {
	case s.spec.Attached == nil:
		return netip.Addr{}
	case s.hub == nil:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return s.hub.Own()
}

// attached is what the keeper is told of the session's process; nil if there is none.
func (s *session) attached() *wire.Attached {
	a := s.spec.Attached
	if a == nil {
		return nil
	}
	return &wire.Attached{Name: a.Name, PID: a.PID, Address: s.Address().String(), UID: a.UID}
}

// serveAttached opens the way from engines to the session's process, which they also find by the session's id as a name.
func (s *session) serveAttached() error {
	s.hub.Admit(s.spec.Attached.UID)
	if err := s.hub.Name(string(s.spec.ID), s.hub.Own()); err != nil {
		return fmt.Errorf("name the session's process: %w", err)
	}
	err := s.hub.ServeProcess(hub.ProcessOptions{PID: s.spec.Attached.PID, Session: string(s.spec.ID), Foreign: s.foreign})
	if err != nil {
		return fmt.Errorf("open the way to the session's process: %w", err)
	}
	return nil
}

// dialAttached connects to what the session's process listens on, and where there is a network between to nothing else of the machine.
func (s *session) dialAttached(ctx context.Context, port int) (net.Conn, error) {
	to := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))}
	if s.hub != nil {
		var err error
		if to, err = s.hub.Process(uint16(port)); err != nil {
			return nil, err
		}
	}
	return hub.DialAny(ctx, to)
}

// foreign says in the console that engines asked for a port that is not the session's.
func (s *session) foreign(port uint16, holder string) {
	if holder != "" {
		holder = " (" + holder + ")"
	}
	note, err := json.Marshal(map[string]string{
		"type": "notice", "engine": string(s.spec.ID),
		"message": fmt.Sprintf("port %d of this machine belongs to another process%s: bind another port", port, holder),
	})
	if err == nil {
		s.Note(context.Background(), s.spec.ID, note) // a session that ends at this moment needs no notice
	}
}
