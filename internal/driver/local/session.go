package local

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/hub"
	"muster/internal/linux/netns"
	"muster/internal/linux/openssh"
)

// session implements driver.Session: one keeper, and, where its engines have a network of their own, one hub.
type session struct {
	driver *Driver
	spec   driver.SessionSpec
	conn   *wire.Conn
	keeper *exec.Cmd     // nil if another process started it
	live   chan struct{} // closed when the keeper has told all that happened so far
	lost   chan struct{} // closed when the connection to the keeper ended
	gone   chan struct{} // closed when everything was observed and given back

	network   sync.RWMutex // held for reading while hub or plain is used
	hub       *hub.Hub     // nil without a network of its own
	plain     *loopback    // nil with one
	over      bool         // both are closed
	listeners []net.Listener
	serving   sync.WaitGroup // Inside.Serve, one for each engine

	keyOf sync.Mutex
	key   openssh.Key // nil until the first engine was started

	mu       sync.Mutex
	seq      uint64
	waiting  map[uint64]chan<- reply
	starting map[engine.ID]bool    // taken by a start that is under way
	engines  map[engine.ID]member  // accepted by the keeper, not ended
	slots    map[engine.ID]*slot   // started ahead, or just being
	crews    map[driver.Kind]*crew // of each kind that is to wait
	fill     chan struct{}         // a crew may lack somebody; nil: there was none yet
	stirs    stirs
	ended    *driver.Observation // what the keeper said at its end
	// Nothing is observed any more, because this process
	detached  bool // lets go of a session that goes on
	released  bool // gave everything back
	abandoned bool // opened a session that nobody wants any more
}

// member is an engine that the keeper holds.
type member struct {
	address netip.Addr
	pid     int          // its init; 0 until it was started
	inside  net.Listener // on its loopback; nil: none
	net     uint64       // the inode of its network namespace; 0: not known (yet), or none of its own
	adopted bool         // another process started it
	kind    driver.Kind  // it was started ahead for; the zero Kind: it was not
	parent  *slot        // the zygote that forked it; nil: none
}

func (m member) closeInside() {
	if m.inside != nil {
		m.inside.Close()
	}
}

type reply struct {
	event wire.Event
	files []*os.File
}

func newSession(d *Driver, spec driver.SessionSpec) *session {
	s := &session{
		driver: d, spec: spec, live: make(chan struct{}), lost: make(chan struct{}), gone: make(chan struct{}),
		waiting: map[uint64]chan<- reply{}, starting: map[engine.ID]bool{}, engines: map[engine.ID]member{},
		slots: map[engine.ID]*slot{}, crews: map[driver.Kind]*crew{},
	}
	if !d.apart(spec) {
		s.plain = newLoopback()
	}
	return s
}

func (s *session) Handle() driver.Handle {
	return driver.Handle{Version: wire.Version, Session: s.spec.ID}
}

// release gives back what this process holds of the session. Nobody uses its network any more when it is closed.
func (s *session) release() {
	s.network.Lock()
	defer s.network.Unlock()
	if s.over {
		return
	}
	s.over = true
	if s.conn != nil {
		s.conn.Close()
	}
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	s.released = true
	for _, m := range s.engines {
		m.closeInside()
	}
	for _, slot := range s.slots {
		slot.close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	if s.hub != nil {
		s.hub.Close()
	}
	s.driver.leave(s)
}

// detach lets go of a session that goes on.
func (s *session) detach() {
	s.mu.Lock()
	s.detached = true
	s.mu.Unlock()
	s.conn.Close()
	<-s.gone
}

// inNetwork does something with the session's network, which stays open meanwhile.
func (s *session) inNetwork(do func() error) error {
	s.network.RLock()
	defer s.network.RUnlock()
	if s.over {
		return errEnded
	}
	return do()
}

func (s *session) Listen(ctx context.Context, port int) (l net.Listener, at netip.AddrPort, err error) {
	if s.hub == nil {
		return s.listenPlain(ctx, port)
	}
	err = s.inNetwork(func() error {
		l, err = s.hub.Listen(port)
		return err
	})
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return l, l.Addr().(*net.TCPAddr).AddrPort(), nil
}

func (s *session) listenPlain(ctx context.Context, port int) (net.Listener, netip.AddrPort, error) {
	s.network.Lock()
	defer s.network.Unlock()
	if s.over {
		return nil, netip.AddrPort{}, errEnded
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	s.listeners = append(s.listeners, l)
	return l, l.Addr().(*net.TCPAddr).AddrPort(), nil
}

func (s *session) Reserve(n int) (addrs []netip.Addr, err error) {
	err = s.inNetwork(func() error {
		if s.hub == nil {
			addrs = s.plain.reserve(n)
			return nil
		}
		addrs, err = s.hub.Reserve(n)
		return err
	})
	return addrs, err
}

func (s *session) Release(addrs ...netip.Addr) {
	addrs = s.dropSeats(addrs)
	if s.hub == nil {
		return
	}
	s.inNetwork(func() error { // after the end there is nothing to give back
		s.hub.Release(addrs...)
		return nil
	})
}

// Keep implements driver.Session.
func (s *session) Keep(ctx context.Context, proposed []byte) ([]byte, error) {
	r, err := s.request(ctx, wire.Request{Op: wire.OpKeep, Key: proposed})
	return r.event.Key, err
}

func (s *session) Signal(ctx context.Context, id engine.ID, signal int) error {
	_, err := s.request(ctx, wire.Request{Op: wire.OpSignal, Engine: string(id), Signal: signal})
	return err
}

func (s *session) Resize(ctx context.Context, id engine.ID, size driver.TerminalSize) error {
	_, err := s.request(ctx, wire.Request{
		Op: wire.OpResize, Engine: string(id), Size: &wire.TerminalSize{Rows: size.Rows, Cols: size.Cols},
	})
	return err
}

// WriteStdin implements driver.Session.
func (s *session) WriteStdin(ctx context.Context, id engine.ID, from int64, data []byte, last bool) (driver.Stdin, error) {
	for {
		part := data[:min(len(data), wire.MaxStdin)]
		data = data[len(part):]
		r, err := s.request(ctx, wire.Request{
			Op: wire.OpStdin, Engine: string(id), From: from, Data: part, Last: last && len(data) == 0,
		})
		at := driver.Stdin{Written: r.event.Written, Closed: r.event.Closed}
		if err != nil || len(data) == 0 || at.Closed {
			return at, err
		}
		if from >= 0 {
			from += int64(len(part))
		}
	}
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
	if s.spec.Attached != nil && id == s.spec.ID {
		return s.dialAttached(ctx, port)
	}
	s.mu.Lock()
	m := s.engines[id]
	s.mu.Unlock()
	if m.pid == 0 || s.hub != nil && m.net == 0 {
		return nil, engine.Errorf(engine.NotFound, "engine %s is not running", id)
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	if s.hub == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address.String())
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
	if err != nil {
		return nil, engine.Errorf(engine.NotFound, "engine %s has just ended", id)
	}
	defer ns.Close()
	// The init may have ended without our knowing yet, and its number be another process's, in a network of somebody else's.
	if there, err := inode(ns); err != nil || there != m.net {
		return nil, engine.Errorf(engine.NotFound, "engine %s has just ended", id)
	}
	c, err := netns.DialTCP(ctx, ns, address)
	if err != nil {
		return nil, err // not c: a nil *net.TCPConn in the interface
	}
	return c, nil
}

// inode tells namespaces apart.
func inode(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("look at a namespace: %w", err)
	}
	return st.Ino, nil
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

// loopback gives addresses where engines share the host's network: of 127.0.0.0/8, so that engines that bind to their own address do not meet.
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
		if l.next = l.next.Next(); l.next.As4()[1] == 255 {
			l.next = randomLoopback()
		}
	}
	return out
}
