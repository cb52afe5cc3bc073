package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/linux/netns"
)

// DNSOptions say how names of the outside are resolved. The zero value is right for a host.
type DNSOptions struct {
	// Dial connects to the host's resolvers from this process's own network; nil: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ResolvConf names the file that lists them; "": /etc/resolv.conf.
	ResolvConf string
	// Timeout is how long one of them may take before the next is asked; 0: 2 s.
	Timeout time.Duration
}

const (
	dnsPort      = 53
	maxMessage   = 65535
	maxQuery     = 4096 // by UDP: what resolvers take there at most, and a thousand of them may wait
	askedAtOnce  = 64   // questions that are with the host's resolvers: a descriptor each
	maxWaiting   = 1024 // questions that wait for that; what comes on top is refused at once
	maxTCP       = 64   // connections
	tcpIdle      = 10 * time.Second
	dnsTimeout   = 2 * time.Second
	resolverFile = "/etc/resolv.conf"
)

// dns answers on port 53 of the gateway: the names of the session's engines by itself, everything else by passing whole
// messages to the host's resolvers and back.
type dns struct {
	hub       *Hub
	opts      DNSOptions
	resolvers resolvers
	udp       *net.UDPConn
	tcp       *listener
	asking    chan struct{}
	waiting   chan struct{}
	stop      context.CancelFunc
	conns     conns
	wg        sync.WaitGroup
}

// ServeDNS answers name queries of the engines, by UDP and TCP on port 53 of the gateway, until the hub is closed. It may
// be called once. When the host has no resolvers, or none answers, engines are told so (SERVFAIL) instead of waiting.
func (h *Hub) ServeDNS(opts DNSOptions) error {
	if opts.Dial == nil {
		opts.Dial = new(net.Dialer).DialContext
	}
	if opts.ResolvConf == "" {
		opts.ResolvConf = resolverFile
	}
	if opts.Timeout == 0 {
		opts.Timeout = dnsTimeout
	}
	udp, err := netns.ListenUDP(h.ns, netip.AddrPortFrom(h.gateway, dnsPort))
	if err != nil {
		return fmt.Errorf("serve DNS: %w", err)
	}
	if raw, err := udp.SyscallConn(); err == nil {
		// Hundreds of engines may start and ask at once; a lost question costs its client five seconds.
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) })
	}
	tcp, err := h.Listen(dnsPort)
	if err != nil {
		udp.Close()
		return fmt.Errorf("serve DNS: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &dns{
		hub: h, opts: opts, resolvers: resolvers{path: opts.ResolvConf}, udp: udp, tcp: tcp.(*listener), stop: stop,
		asking: make(chan struct{}, askedAtOnce), waiting: make(chan struct{}, maxWaiting),
	}
	d.wg.Go(func() { d.serveUDP(ctx) })
	d.wg.Go(func() { d.serveTCP(ctx) })
	h.mu.Lock()
	h.services = append(h.services, d.close)
	h.mu.Unlock()
	return nil
}

func (d *dns) close() error {
	d.stop()
	err := errors.Join(d.udp.Close(), d.tcp.end())
	d.conns.close()
	d.wg.Wait()
	return err
}

func (d *dns) serveUDP(ctx context.Context) {
	buf := make([]byte, maxQuery+1)
	for {
		n, from, err := d.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an earlier answer could not be delivered
		}
		if n > maxQuery {
			continue
		}
		q, quick := d.local(buf[:n])
		if quick != nil {
			d.udp.WriteToUDPAddrPort(quick, from)
			continue
		}
		if q.end == 0 {
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		select {
		case d.waiting <- struct{}{}:
			d.wg.Go(func() {
				defer func() { <-d.waiting }()
				d.udp.WriteToUDPAddrPort(d.relay(ctx, "udp", query, q), from)
			})
		default:
			d.udp.WriteToUDPAddrPort(reply(query, q, codeServer), from)
		}
	}
}

func (d *dns) serveTCP(ctx context.Context) {
	slots := make(chan struct{}, maxTCP)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := d.tcp.Accept()
		if err != nil {
			<-slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			pause(ctx, 50*time.Millisecond)
			continue
		}
		d.wg.Go(func() {
			defer func() { <-slots }()
			d.converse(ctx, c)
		})
	}
}

// converse answers the queries of one TCP connection, one after the other.
func (d *dns) converse(ctx context.Context, c net.Conn) {
	if !d.conns.add(c) {
		return
	}
	defer d.conns.remove(c)
	for {
		c.SetDeadline(time.Now().Add(tcpIdle))
		query, err := readTCP(c)
		if err != nil {
			return
		}
		q, answer := d.local(query)
		if answer == nil {
			if q.end == 0 {
				return
			}
			answer = d.relay(ctx, "tcp", query, q)
		}
		c.SetDeadline(time.Now().Add(tcpIdle))
		if writeTCP(c, answer) != nil {
			return
		}
	}
}

// local answers what needs no resolver. Without an answer and without a question the message deserves no reply.
func (d *dns) local(msg []byte) (question, []byte) {
	q, err := parseQuestion(msg)
	if err != nil {
		if len(msg) < headerSize || msg[2]&(bitResponse>>8) != 0 {
			return question{}, nil // answering an answer could go on for ever
		}
		return question{}, reply(msg, question{}, codeFormat)
	}
	return q, d.hub.names.answer(msg, q)
}

// relay asks the host's resolvers in their order. One that does not answer or answers that it cannot is passed over.
func (d *dns) relay(ctx context.Context, network string, query []byte, q question) []byte {
	failed := reply(query, q, codeServer)
	select {
	case d.asking <- struct{}{}:
		defer func() { <-d.asking }()
	case <-ctx.Done():
		return failed
	}
	for _, server := range d.resolvers.list() {
		answer, err := d.ask(ctx, network, server, query)
		if err != nil {
			continue
		}
		if code := answer[3] & 0xf; code != codeServer && code != codeRefused {
			return answer
		}
		failed = answer
	}
	return failed
}

func (d *dns) ask(ctx context.Context, network string, server netip.AddrPort, query []byte) ([]byte, error) {
	by := time.Now().Add(d.opts.Timeout)
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	c, err := d.opts.Dial(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	if !d.conns.add(c) {
		return nil, net.ErrClosed
	}
	defer d.conns.remove(c)
	c.SetDeadline(by)
	if network == "tcp" {
		if err := writeTCP(c, query); err != nil {
			return nil, err
		}
		answer, err := readTCP(c)
		if err == nil && !answers(answer, query) {
			err = errMessage
		}
		return answer, err
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], query) {
			return buf[:n], nil
		}
	}
}

// answers reports whether msg is an answer to query: the same number, and marked as an answer.
func answers(msg, query []byte) bool {
	return len(msg) >= headerSize && msg[0] == query[0] && msg[1] == query[1] && msg[2]&(bitResponse>>8) != 0
}

func readTCP(c net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, msg)
	return msg, err
}

func writeTCP(c net.Conn, msg []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}
