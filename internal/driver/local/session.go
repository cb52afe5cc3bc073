package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/hub"
	"muster/internal/linux/netns"
)

// session implements driver.Session: one keeper, and, on the root rung, one hub.
type session struct {
	driver *Driver
	spec   driver.SessionSpec
	hub    *hub.Hub // nil on the plain rung
	plain  *loopback
	conn   *wire.Conn
	gone   chan struct{} // closed when the keeper is gone and everything was observed

	mu      sync.Mutex
	seq     uint64
	waiting map[uint64]chan<- reply
	pids    map[engine.ID]int // inits of live engines
	started map[engine.ID]driver.Spec
	over    bool // Ended was observed
}

type reply struct {
	event wire.Event
	files []*os.File
}

func newSession(d *Driver, spec driver.SessionSpec) *session {
	s := &session{
		driver: d, spec: spec, gone: make(chan struct{}),
		waiting: map[uint64]chan<- reply{}, pids: map[engine.ID]int{}, started: map[engine.ID]driver.Spec{},
	}
	if d.rung == Plain {
		s.plain = newLoopback()
	}
	return s
}

func (s *session) Handle() driver.Handle {
	return driver.Handle{Version: wire.Version, Session: s.spec.ID}
}

// release gives back what this process holds of the session.
func (s *session) release() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.hub != nil {
		s.hub.Close()
	}
}

func (s *session) adoptHub(ctx context.Context, config wire.KeeperConfig) error {
	r, err := s.request(ctx, wire.Request{Op: wire.OpHub})
	if err != nil {
		return fmt.Errorf("ask the keeper for the session's network: %w", err)
	}
	if len(r.files) != 1 {
		return errors.New("the keeper did not hand over the session's network")
	}
	prefix, err := netip.ParsePrefix(config.Network)
	if err != nil {
		return err
	}
	if s.hub, err = hub.Open(r.files[0], prefix); err != nil {
		return fmt.Errorf("adopt the session's network: %w", err)
	}
	return s.serveHub()
}

// serveHub opens what engines find at their gateway: the way out, and names.
func (s *session) serveHub() error {
	if err := s.hub.ServeOutbound(hub.OutboundOptions{}); err != nil {
		return fmt.Errorf("open the way out of the session's network: %w", err)
	}
	if err := s.hub.ServeDNS(hub.DNSOptions{}); err != nil {
		return fmt.Errorf("answer names in the session's network: %w", err)
	}
	return nil
}

func (s *session) Listen(ctx context.Context, port int) (net.Listener, netip.AddrPort, error) {
	var l net.Listener
	var err error
	if s.hub != nil {
		l, err = s.hub.Listen(port)
	} else {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	}
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return l, l.Addr().(*net.TCPAddr).AddrPort(), nil
}

func (s *session) Reserve(n int) ([]netip.Addr, error) {
	if s.hub != nil {
		return s.hub.Reserve(n)
	}
	return s.plain.reserve(n), nil
}

func (s *session) Release(addrs ...netip.Addr) {
	if s.hub != nil {
		s.hub.Release(addrs...)
	}
}

func (s *session) Signal(ctx context.Context, id engine.ID, signal int) error {
	_, err := s.request(ctx, wire.Request{Op: wire.OpSignal, Engine: string(id), Signal: signal})
	return err
}

func (s *session) Stop(ctx context.Context, id engine.ID, grace time.Duration, reason engine.Reason, by string) error {
	_, err := s.request(ctx, wire.Request{
		Op: wire.OpStop, Engine: string(id), GraceMillis: grace.Milliseconds(), Reason: string(reason), By: by,
	})
	return err
}

func (s *session) Note(ctx context.Context, id engine.ID, event []byte) error {
	_, err := s.request(ctx, wire.Request{Op: wire.OpNote, Engine: string(id), Note: json.RawMessage(event)})
	return err
}

// Dial enters the engine's network namespace through its init.
func (s *session) Dial(ctx context.Context, id engine.ID, port int) (net.Conn, error) {
	s.mu.Lock()
	pid := s.pids[id]
	s.mu.Unlock()
	if pid == 0 {
		return nil, engine.Errorf(engine.NotFound, "engine %s is not running", id)
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	if s.hub == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address.String())
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, engine.Errorf(engine.NotFound, "engine %s has just ended", id)
	}
	defer ns.Close()
	return netns.DialTCP(ctx, ns, address)
}

// End implements driver.Session. The keeper may already be gone: that is an end, too.
func (s *session) End(ctx context.Context, grace time.Duration, by string) error {
	_, err := s.request(ctx, wire.Request{Op: wire.OpEnd, GraceMillis: grace.Milliseconds(), By: by})
	if err != nil && engine.KindOf(err) != engine.Unavailable {
		return err
	}
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) engineDir(id engine.ID) string {
	return filepath.Join(s.driver.sessionDir(s.spec.ID), "engines", string(id))
}

// loopback gives addresses on the plain rung: of 127.0.0.0/8, so that engines that bind to their own address do not meet.
type loopback struct {
	mu   sync.Mutex
	next netip.Addr
}

func newLoopback() *loopback { return &loopback{next: randomLoopback()} }

func (l *loopback) reserve(n int) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = l.next
		l.next = l.next.Next()
	}
	return out
}
