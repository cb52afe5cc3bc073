package sandbox

import (
	"encoding/binary"
	"fmt"
	"slices"
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
func DropRights() error { return dropRights(allowedCaps, refused) }

// DropRightsOfZygote is DropRights, but that it leaves what is needed to enter namespaces of the user namespace in which this process is:
// who forks into those that are there already, and nothing else. It must not be the machine's own user namespace.
func DropRightsOfZygote() error {
	others := slices.DeleteFunc(slices.Clone(refused), func(call uint32) bool { return call == unix.SYS_SETNS })
	return dropRights(append(slices.Clone(allowedCaps), unix.CAP_SYS_ADMIN), others)
}

// ZygoteCaps is what a zygote of a user who is not root has of them.
var ZygoteCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP}

// Rights tells a zygote what the processes that it forks are to have: the sets of capabilities that a process of that user has and that
// it can have, and the filter of system calls.
func Rights(uid int) (has, bound uint64, filter []byte, err error) {
	arch, err := architecture()
	if err != nil {
		return 0, 0, nil, err
	}
	for _, c := range allowedCaps {
		bound |= 1 << c
	}
	if uid == 0 {
		has = bound
	}
	program := callFilter(arch, refused)
	filter = make([]byte, 0, len(program)*8) // struct sock_filter, see seccomp(2)
	for _, p := range program {
		filter = binary.NativeEndian.AppendUint16(filter, p.Code)
		filter = append(filter, p.Jt, p.Jf)
		filter = binary.NativeEndian.AppendUint32(filter, p.K)
	}
	return has, bound, filter, nil
}

func dropRights(caps []uintptr, refused []uint32) error {
	if err := boundThread(caps); err != nil {
		return err
	}
	// First of all it cannot be traced any more: with fewer rights it could be by others in its user namespace.
	if err := untraceable(); err != nil {
		return err
	}
	if err := setCaps(caps); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no-new-privileges: %w", err)
	}
	return filterCalls(refused) // on all threads, and what was just set with it
}

// BoundThread takes all rights but allowedCaps from the calling thread's bounding set, which counts at an exec only: for all
// threads this would cost a millisecond. The caller must be locked to its thread.
func BoundThread() error { return boundThread(allowedCaps) }

func boundThread(caps []uintptr) error {
	for c := uintptr(0); c < 64; c++ {
		if slices.Contains(caps, c) {
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
	return untraceable()
}

func untraceable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make untraceable: %w", err)
	}
	return nil
}

// setCaps leaves all threads these capabilities, and none to inherit, nor, with that, ambient ones. It is the one step that each thread has
// to be woken for, which takes half a millisecond.
func setCaps(caps []uintptr) error {
	var low, high uint32
	for _, c := range caps {
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
