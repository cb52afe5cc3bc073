package peer

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// connectAs connects and waits to be looked at. "shut HOST:PORT" closes its half first, "both HOST:PORT" uses a socket of IPv6
// for an address of IPv4.
func connectAs(to string) {
	how, where, found := strings.Cut(to, " ")
	if !found {
		how, where = "", to
	}
	c, err := dialAs(how, where)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if how == "shut" {
		c.(*net.TCPConn).CloseWrite()
	}
	c.Read(make([]byte, 1))
	os.Exit(0)
}

func dialAs(how, where string) (net.Conn, error) {
	if how != "both" {
		return net.Dial("tcp", where)
	}
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	to := netip.MustParseAddrPort(where)
	if err := syscall.Connect(fd, &syscall.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	return net.FileConn(os.NewFile(uintptr(fd), ""))
}

func ends(c net.Conn) (local, remote netip.AddrPort) {
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
}

func TestWhoConnectsByTCP(t *testing.T) {
	for _, c := range []struct {
		name, listen, dial string
		uid                int
	}{
		{"oneself", "127.0.0.1:0", "127.0.0.1", os.Getuid()},
		{"oneself at another number", "0.0.0.0:0", "127.0.0.9", os.Getuid()},
		{"a listener for both protocols", "[::]:0", "127.0.0.1", os.Getuid()},
		{"IPv6", "[::1]:0", "[::1]", os.Getuid()},
		{"a socket for both protocols", "127.0.0.1:0", "both 127.0.0.1", os.Getuid()},
		{"another user", "127.0.0.1:0", "127.0.0.1", 65534},
		{"another user by IPv6", "[::1]:0", "[::1]", 65533},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.uid != os.Getuid() && os.Geteuid() != 0 {
				t.Skip("capability root: this test needs root for another user")
			}
			l, err := net.Listen("tcp", c.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			conn, end := another(t, l, c.uid, c.dial+":"+port)
			if uid, err := TCPUser(ends(conn)); err != nil || uid != c.uid {
				t.Errorf("user %d, %v; want %d", uid, err, c.uid)
			}
			conn.Close()
			end()
		})
	}
}

// another connects to l as a user of that number.
func another(t *testing.T, l net.Listener, uid int, to string) (net.Conn, func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"CONNECT_TO_PORT=" + to}
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: true}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn, func() {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// A socket that is not open any more is listed as root's, whoever made it: it is nobody's. And so is one that waits where
// the connection came from.
func TestWhoIsNotConnectedAnyMore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, end := another(t, l, os.Getuid(), "shut "+l.Addr().String())
	conn.Read(make([]byte, 1)) // its half was closed
	if uid, err := TCPUser(ends(conn)); err == nil {
		t.Errorf("half a connection belongs to %d", uid)
	}
	local, remote := ends(conn)
	conn.Close()
	end()
	if uid, err := TCPUser(local, remote); err == nil {
		t.Errorf("a closed connection belongs to %d", uid)
	}
	if uid, err := TCPUser(netip.MustParseAddrPort("127.0.0.1:1"), local); err == nil {
		t.Errorf("a listener belongs to %d", uid)
	}
}
