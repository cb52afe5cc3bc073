package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ListenTCP listens in ns. The listener works from every goroutine, and holds ns until it is closed.
// Multipath TCP is off: its sockets do not tell the original destination of a redirected connection.
func ListenTCP(ns *os.File, addr netip.AddrPort) (*net.TCPListener, error) {
	var l net.Listener
	err := Do(ns, func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), "tcp", addr.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// ListenUDP opens a UDP socket in ns. It works from every goroutine, and holds ns until it is closed.
func ListenUDP(ns *os.File, addr netip.AddrPort) (*net.UDPConn, error) {
	var c *net.UDPConn
	err := Do(ns, func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return c, err
}

// DialTCP connects to addr from inside ns. Until it returns it occupies one thread; ctx ends the attempt.
func DialTCP(ctx context.Context, ns *os.File, addr netip.AddrPort) (*net.TCPConn, error) {
	var c net.Conn
	err := Do(ns, func() (err error) {
		var d net.Dialer // a literal address: the dialer stays on this goroutine
		d.SetMultipathTCP(false)
		c, err = d.DialContext(ctx, "tcp", addr.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// LoHere brings the loopback interface of the calling thread's namespace up, with 127.0.0.1/8 and ::1/128: for use inside
// Do.
func LoHere() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("read the flags of lo: %w", err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
