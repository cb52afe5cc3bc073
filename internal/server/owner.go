package server

import (
	"context"
	"net"

	"golang.org/x/sys/unix"

	"muster/api"
	"muster/engine"
)

type connKey struct{}

// connContext remembers the connection: of some the process at the other end can be asked for, and some are to be closed.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, Socket(c))
}

// settleOwner makes sure that a session's owner is the process that asks. A number alone says little: it may be of another
// machine (a forwarded socket), or of another container, or given to a stranger when its process has ended. If it is not the
// asking process's, the lease "connection" counts, if it was asked for too. stays reports whether the owner is still there.
func settleOwner(ctx context.Context, req *api.CreateSession) (stays func() bool, err error) {
	always := func() bool { return true }
	if req.OwnerPID == 0 {
		if identity(ctx).Token != "" { // what a token has begun ends with it
			req.Lease = api.LeaseConnection
		}
		return always, nil
	}
	conn, _ := ctx.Value(connKey{}).(*net.UnixConn)
	switch {
	case conn != nil && peerPID(conn) == req.OwnerPID:
		req.Lease = "" // a pidfd, which the keeper holds, is the better one
		return func() bool { return connected(conn) }, nil
	case req.Lease == api.LeaseConnection:
		req.OwnerPID = 0
		return always, nil
	default:
		return nil, engine.Errorf(engine.Invalid, "owner_pid %d is not the process that asks, as far as this server can see", req.OwnerPID).
			WithHint("ask from that process through the server's unix socket, or for the lease %q", api.LeaseConnection)
	}
}

// peerPID is the process that connected, as this process sees its number; 0 if that is not known.
func peerPID(c *net.UnixConn) (pid int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// connected reports whether the other end is open. It is closed with its process.
func connected(c *net.UnixConn) (yes bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		for _, err = unix.Poll(fds, 0); err == unix.EINTR; {
			_, err = unix.Poll(fds, 0)
		}
		yes = err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) == 0
	})
	return yes
}
