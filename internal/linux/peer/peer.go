// Package peer tells who is at the other end of a socket. The keeper and the server ask it of unix sockets before they listen to
// anybody, because engines run under the same user as they: an engine that finds their socket in the file system shares the
// user, and mostly the path, but not the process namespace. The web listener asks it of TCP connections within this machine,
// to know the browser of the person who runs it. Linux mechanics only; it looks at linux/pidfd, and everybody may import it.
package peer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/linux/pidfd"
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
// strangers. It must be called as soon as c is accepted.
func Here(c *net.UnixConn) (bool, error) {
	var accepted unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &accepted); err != nil {
		return false, err
	}
	cred, err := credentials(c)
	if err != nil || cred.Pid == 0 {
		return false, err
	}
	pid := int(cred.Pid)
	fd, err := peerPidfd(c)
	// What is looked at before Linux 6.5 has the number of whoever connected, and that may be another's by now.
	numbers := fmt.Sprintf("/proc/%d/status", pid)
	same := func() error { return beganBefore(pid, time.Duration(accepted.Nano())) }
	switch {
	case err == nil:
		defer unix.Close(fd)
		numbers = fmt.Sprintf("/proc/self/fdinfo/%d", fd)
		same = func() error { return alive(fd) }
	case !errors.Is(err, unix.ENOPROTOOPT):
		return false, fmt.Errorf("look at process %d, which connected: %w", pid, err)
	}
	here, err := inOurs(numbers)
	if err == nil {
		err = same()
	}
	return here && err == nil, err
}

// inOurs counts the numbers that a process has: one in each process namespace from ours down to its own (NSpid in
// proc_pid_status(5) and pidfd_open(2)). Everybody may read that, also from inside of a user namespace, where what is outside may
// not be looked into.
func inOurs(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(numbers)) == 1, nil
		}
	}
	return false, fmt.Errorf("%s does not tell the process's numbers", path)
}

func alive(fd int) error {
	if pidfd.Ended(fd, 0) {
		return errors.New("the process that connected has ended")
	}
	return nil
}

// tick is the kernel's unit in what it tells of processes: USER_HZ, the same on all architectures of ours.
const tick = time.Second / 100

// beganBefore is an error if the process began more than a tick after a time since the machine's start (field 22 of
// proc_pid_stat(5), the 20th after the name).
func beganBefore(pid int, at time.Duration) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	began, err := beginning(b)
	if err != nil {
		return fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	if began > at {
		return fmt.Errorf("process %d began after whoever had its number connected", pid)
	}
	return nil
}

// beginning reads when a process began from its line in /proc. The name in parentheses may hold anything.
func beginning(stat []byte) (time.Duration, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("it has another form: %.100q", stat)
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil || ticks < 0 || ticks > int64(math.MaxInt64/tick) {
		return 0, fmt.Errorf("it has another form: %.100q", stat)
	}
	return time.Duration(ticks) * tick, nil
}

func peerPidfd(c *net.UnixConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(s uintptr) {
		fd, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	})
	return fd, errors.Join(controlErr, err)
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
