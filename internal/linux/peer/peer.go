// Package peer tells who is at the other end of a socket. The keeper and the server ask it of unix sockets before they listen to
// anybody, because engines run under the same user as they: an engine that finds their socket in the file system shares the
// user, and mostly the path, but not the process namespace. The web listener asks it of TCP connections within this machine,
// to know the browser of the person who runs it. Linux mechanics only, standard library and x/sys; everybody may import it.
package peer

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// User is the user id of whoever connected.
func User(c *net.UnixConn) (uid int, err error) {
	cred, err := credentials(c)
	if err != nil {
		return -1, err
	}
	return int(cred.Uid), nil
}

// Here reports whether whoever connected is in this process's own process namespace. Engines are in others, which they cannot
// leave (the sandbox refuses setns); so the answer tells them from the user's other programs, without a secret that they could
// find. A process of a namespace that is no descendant of ours has the id 0 here, one that has ended has none: both are
// strangers.
func Here(c *net.UnixConn) (bool, error) {
	cred, err := credentials(c)
	if err != nil || cred.Pid == 0 {
		return false, err
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", cred.Pid))
	if err != nil {
		return false, err
	}
	ours, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && theirs == ours, err
}

func credentials(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if controlErr != nil {
		return nil, controlErr
	}
	return cred, err
}
