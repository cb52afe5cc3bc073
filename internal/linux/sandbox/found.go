package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A sandbox is made of what paths lead to at that moment. Who makes one before it is needed asks here, then and later: as long as the
// answers are the same, so is the sandbox.

// Place tells where a path leads; "" is nowhere.
func Place(path string) string {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	name, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
	if err = errors.Join(err, unix.Fstat(fd, &st)); err != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, " ", st.Ino, " ", name)
}

// File tells which file a path leads to, and as of when; "" is none.
func File(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, " ", st.Ino, " ", st.Size, " ", st.Ctim.Nano())
}

// hostFiles are those that a sandbox covers, and those that every program reads when it starts.
var hostFiles = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.cache", "/etc/localtime",
}

// HostFiles tells of the host's own files that every sandbox holds.
func HostFiles() []string {
	out := make([]string, len(hostFiles))
	for i, f := range hostFiles {
		out[i] = File(f)
	}
	return out
}

// Mounts are those of a process's namespace, of which a sandbox that it makes holds a copy.
type Mounts struct{ file *os.File }

// MountsOf begins to watch them.
func MountsOf(pid int) (Mounts, error) {
	name := fmt.Sprintf("/proc/%d/mountinfo", pid)
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) // not os.Open: the runtime would ask, and be told
	if err != nil {
		return Mounts{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return Mounts{os.NewFile(uintptr(fd), name)}, nil
}

// Changed reports whether they have changed since this was last asked. The kernel tells it of the open file, which does not have to be
// read (proc_pid_mounts(5)).
func (m Mounts) Changed() bool {
	raw, err := m.file.SyscallConn()
	if err != nil {
		return true
	}
	changed := true // also where nobody knows
	raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, 0)
		changed = n != 0 || err != nil
	})
	return changed
}

// Close ends watching.
func (m Mounts) Close() error { return m.file.Close() }
