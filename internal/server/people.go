package server

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"muster/api"
	"muster/internal/linux/peer"
)

const (
	// peerConnections is how many connections one user of this machine, or one address of another, may have open. Whoever follows
	// hundreds of consoles has hundreds.
	peerConnections = 1024
	// knownFrom is when it is asked whose the connections over the loopback are: to find out takes longer the more there are.
	knownFrom = 128
)

// ForPeople bounds the connections of a listener that people reach: more of one user, or of one address, are closed at once, so that
// who opens ten thousand and sends nothing keeps nobody else away. All such listeners of one Peers count together.
func (p *Peers) ForPeople(l net.Listener) net.Listener { return &peopleListener{l, p} }

// Peers counts connections by who is at the other end. The zero Peers is ready for use.
type Peers struct {
	mu      sync.Mutex
	open    map[string]int
	most    int // 0: by the limit for descriptors
	refused atomic.Int64
}

// limit keeps most of the process's descriptors for others.
func (p *Peers) limit() int {
	if p.most > 0 {
		return p.most
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur/4 > peerConnections {
		return peerConnections
	}
	return max(1, int(files.Cur/4))
}

// enter counts a connection, or refuses it. name is "" for one that is not counted.
func (p *Peers) enter(c net.Conn) (name string, ok bool) {
	if name = p.nameOf(c); name == "" {
		return "", true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = map[string]int{}
	}
	if p.open[name] >= p.limit() {
		p.refused.Add(1)
		return "", false
	}
	p.open[name]++
	return name, true
}

func (p *Peers) leave(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[name]--; p.open[name] <= 0 {
		delete(p.open, name)
	}
}

// nameOf says who is at the other end; "" is root on this machine, who is not held up by root's own limits.
func (p *Peers) nameOf(c net.Conn) string {
	switch c := c.(type) {
	case *net.UnixConn:
		uid, err := peer.User(c)
		if err == nil && uid == 0 {
			return ""
		}
		return fmt.Sprint("user ", uid)
	case *net.TCPConn:
		local, remote := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
		name := whose(remote.IP)
		p.mu.Lock()
		many := p.open[name] >= knownFrom
		p.mu.Unlock()
		if many && remote.IP.IsLoopback() {
			if uid, err := peer.TCPUser(local.AddrPort(), remote.AddrPort()); err == nil {
				return fmt.Sprint("user ", uid)
			}
		}
		return name
	}
	return "others"
}

// whose names who has an address. A machine with IPv6 mostly has all addresses of its network, 2⁶⁴ of them (RFC 7421).
func whose(ip net.IP) string {
	if ip.To4() != nil || ip.IsLoopback() {
		return ip.String()
	}
	return ip.Mask(net.CIDRMask(64, 128)).String() + "/64"
}

type peopleListener struct {
	net.Listener
	peers *Peers
}

func (l *peopleListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		name, ok := l.peers.enter(c)
		if !ok {
			refuse(c)
			continue
		}
		if name == "" {
			return c, nil
		}
		return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.peers.leave(name) })}, nil
	}
}

// refuse says why, as far as there is room for it at once, and closes.
func refuse(c net.Conn) {
	const body = `{"kind":"unavailable","message":"too many connections are open to this server from here","hint":"close some"}` + "\n"
	c.SetWriteDeadline(time.Now().Add(time.Millisecond))
	fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\n%s: %d\r\nContent-Type: application/json\r\nConnection: close\r\n"+
		"Content-Length: %d\r\n\r\n%s", api.HeaderVersion, api.Version, len(body), body)
	c.Close()
}

// countedConn leaves when it is closed.
type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite is for whoever passes a connection on.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Socket is the connection itself, where it is counted.
func Socket(c net.Conn) net.Conn {
	if counted, ok := c.(*countedConn); ok {
		return counted.Conn
	}
	return c
}
