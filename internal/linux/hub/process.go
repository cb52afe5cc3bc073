package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/linux/pidfd"
)

// ProcessOptions say whose sockets engines reach at a linked hub's own address.
type ProcessOptions struct {
	// PID is the session's process, in this process's network namespace. It and its descendants are meant, and whatever says
	// by CDSW_ENGINE_ID in its environment that it belongs to the session: a daemon's parent is not who started it.
	PID     int
	Session string
	// Foreign is told, once for each port, that engines asked for one that only others listen on; holder says who, as
	// "python3, pid 123", and may be empty. It is called by the connection's goroutine. Nil: nobody is told.
	Foreign func(port uint16, holder string)
	// MaxConns is how many connections are carried at once; more wait. 0: 512, as for outbound ones.
	MaxConns int
}

// process connects engines with the sockets of the session's process.
type process struct {
	hub  *Hub
	opts ProcessOptions

	mu    sync.Mutex
	pidfd int // tells whether PID is still that process; -1: closed
	told  map[uint16]bool
}

// ServeProcess carries the TCP connections that engines open to the hub's own address to the sockets that the session's
// process listens on, whatever address of the host they are bound to, and to no other service of the host, until the hub is
// closed. A port on which nobody listens yet lets an engine wait in the first 30 s of its life; afterwards, and where
// somebody else listens, the connection is reset. It may be called once.
func (h *Hub) ServeProcess(opts ProcessOptions) error {
	if !h.own.IsValid() {
		return errors.New("serve the session's process: the network has no link to the host")
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = 512
	}
	pidfd, err := unix.PidfdOpen(opts.PID, 0)
	if err == unix.ESRCH { // it has just ended, and its session is about to: nothing of it is found any more
		pidfd, err = -1, nil
	}
	if err != nil {
		return fmt.Errorf("serve the session's process %d: %w", opts.PID, err)
	}
	p := &process{hub: h, opts: opts, pidfd: pidfd, told: map[uint16]bool{}}
	if err := h.carry(opts.MaxConns, h.redirectOwn, p.dial); err != nil {
		p.close()
		return fmt.Errorf("serve the session's process: %w", err)
	}
	h.mu.Lock()
	h.process = p
	h.services = append(h.services, p.close)
	h.mu.Unlock()
	return nil
}

const (
	firstPause = 5 * time.Millisecond
	lastPause  = 200 * time.Millisecond
)

// dial connects to a socket of the process. The kernel tells nobody that a socket begins to listen, so that waiting for it
// is looking again: after pauses that grow, and for the rest of the engine's first 30 s at most.
func (p *process) dial(ctx context.Context, in *net.TCPConn) (net.Conn, error) {
	to, err := originalDestination(in)
	if err != nil {
		return nil, err
	}
	if to.Addr() != p.hub.own {
		return nil, fmt.Errorf("%s is not the session's process", to) // connected to the redirecting port itself
	}
	until := p.hub.attachedAt(in.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()).Add(youngFor)
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		c, err := p.try(ctx, to.Port())
		if !errors.Is(err, unix.ECONNREFUSED) || !time.Now().Before(until) {
			return c, err
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// attachedAt is when an engine's network was made.
func (h *Hub) attachedAt(a netip.Addr) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attached[a]
}

// try looks for the socket once: ECONNREFUSED if nobody listens. Who looks first and connects then can meet somebody who took
// the port in between; that is as likely as for any client that connects to a port of its own machine.
func (p *process) try(ctx context.Context, port uint16) (net.Conn, error) {
	to, err := p.find(port)
	if err != nil {
		return nil, err
	}
	return DialAny(ctx, to)
}

// DialAny connects to the first of the addresses that takes a connection; there is one at least.
func DialAny(ctx context.Context, to []netip.AddrPort) (c net.Conn, err error) {
	for _, a := range to {
		if c, err = (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", a.String()); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// Process finds where on the host the session's process listens on a port: ECONNREFUSED if nobody does. ServeProcess comes
// first. After Close it finds nothing.
func (h *Hub) Process(port uint16) ([]netip.AddrPort, error) {
	h.mu.Lock()
	p := h.process
	h.mu.Unlock()
	if p == nil {
		return nil, errors.New("find the session's process: it is not served")
	}
	return p.find(port)
}

// find returns one address or more, or an error.
func (p *process) find(port uint16) ([]netip.AddrPort, error) {
	all, err := listening(p.opts.PID, port)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, unix.ECONNREFUSED
	}
	found, err := holders(p.opts.PID, p.opts.Session, all)
	if err != nil {
		return nil, err
	}
	if !p.alive() {
		return nil, fmt.Errorf("the session's process %d has ended", p.opts.PID)
	}
	to := targets(p.hub.own, all, found.ours)
	if len(found.ours) == 0 && found.other == "" {
		return nil, unix.ECONNREFUSED // just closed, or the kernel's own
	}
	if len(to) == 0 {
		p.foreign(port, found.other)
		return nil, fmt.Errorf("port %d belongs to another process", port)
	}
	at := make([]netip.AddrPort, len(to))
	for i, a := range to {
		at[i] = netip.AddrPortFrom(a, port)
	}
	return at, nil
}

// dialTime is far more than a connection within the machine takes; one whose backlog is full may take it.
const dialTime = 10 * time.Second

func (p *process) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return nil
	}
	err := unix.Close(p.pidfd)
	p.pidfd = -1
	return err
}

// alive reports whether PID has not been given to somebody else.
func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pidfd >= 0 && !pidfd.Ended(p.pidfd, 0)
}

func (p *process) foreign(port uint16, holder string) {
	p.mu.Lock()
	first := !p.told[port]
	p.told[port] = true
	p.mu.Unlock()
	if first && p.opts.Foreign != nil {
		p.opts.Foreign(port, holder)
	}
}
