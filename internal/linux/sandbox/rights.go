package sandbox

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowedCaps is what a process with uid 0 may keep: the narrow default set of rootless container engines, without raw
// sockets, device nodes and audit records. Other users have none of them.
var allowedCaps = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_NET_BIND_SERVICE,
	unix.CAP_SETFCAP, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SYS_CHROOT,
}

// DropRights takes from all threads of this process, and so from everything it starts, all rights but allowedCaps, and the
// possibility to gain any (no-new-privileges, no new namespaces, no system calls that a container's default profile
// refuses). The process itself can no longer be traced or looked into by processes of the same user. It must not be linked
// with cgo. The caller must be locked to its thread and start its children from that thread, or from one that called
// BoundThread.
func DropRights() error {
	if err := BoundThread(); err != nil {
		return err
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := setCaps(); err != nil {
		return err
	}
	if err := NoNewRights(); err != nil {
		return err
	}
	return filterCalls()
}

// BoundThread takes all rights but allowedCaps from the calling thread's bounding set, which counts at an exec only: for all
// threads this would cost a millisecond. The caller must be locked to its thread.
func BoundThread() error {
	for c := uintptr(0); c < 64; c++ {
		if allowed(c) {
			continue
		}
		_, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		if errno == unix.EINVAL {
			break // beyond the last capability that this kernel knows
		}
		if errno != 0 {
			return fmt.Errorf("drop capability %d: %w", c, errno)
		}
	}
	return nil
}

// NoNewRights sets no-new-privileges on all threads and makes the process untraceable: all that is possible without
// being root.
func NoNewRights() error {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no-new-privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make untraceable: %w", err)
	}
	return nil
}

func setCaps() error {
	var low, high uint32
	for _, c := range allowedCaps {
		if c < 32 {
			low |= 1 << c
		} else {
			high |= 1 << (c - 32)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
	err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

func allThreads(trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3); errno != 0 {
		return errno
	}
	return nil
}

func allowed(c uintptr) bool {
	for _, a := range allowedCaps {
		if a == c {
			return true
		}
	}
	return false
}
