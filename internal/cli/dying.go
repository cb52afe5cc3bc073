package cli

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/linux/pidfd"
)

// DyingTime is more than a process takes to be gone after it was killed.
const DyingTime = 2 * time.Second

// silence is how long a server is asked for a sign of life.
const silence = 500 * time.Millisecond

// Dying reports whether the server that was found at a unix socket is about to be gone, and returns when it is: a process that was
// killed listens on for a moment. One that only says nothing, because somebody has stopped it, is there.
func Dying(socket string, pid int) bool {
	if pid == 0 || speaks(socket) {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err == unix.ESRCH
	}
	defer unix.Close(fd)
	return pidfd.Ended(fd, DyingTime)
}

// speaks reports whether whoever listens at a socket does not hang up at once.
func speaks(socket string) bool {
	c, err := net.DialTimeout("unix", socket, silence)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(silence))
	io.WriteString(c, "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") // if nobody reads it, that is seen below
	_, err = c.Read(make([]byte, 1))
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}
