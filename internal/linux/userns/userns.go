// Package userns lets a process without rights work in a user namespace, where it has all capabilities over what is made
// there: network, mount, process and other namespaces, and nothing over the machine's own.
//
// The ideas:
//   - One user is mapped, to itself: files look as they are and nobody takes himself for root. What the namespace's programs
//     may do comes from ambient capabilities, which survive an exec where no user is root.
//   - A namespace lives by the processes in it, and by descriptors. It has no name; Of finds it by a process.
//   - The kernel lets only a process with one thread change its user namespace, and Go's have several from the beginning. A new
//     namespace is made by the kernel's clone (Child). Into one that is there a process gets by executing a program of a
//     few hundred bytes, which enters it and executes the real one (Enter): number, parent, terminal and signals stay.
//
// Packages app and driver/local use it. Standard library and golang.org/x/sys only.
package userns

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inside reports whether this process is no root and has the capabilities of a namespace that is not the machine's.
func Inside() bool {
	if os.Geteuid() == 0 {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SYS_PTRACE
	return data[0].Effective&need == need && !machines()
}

// machines reports whether the namespace is the machine's own, which maps all users.
func machines() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
}

// Child makes attr start a process in a new namespace, with all capabilities there.
func Child(attr *syscall.SysProcAttr) {
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	attr.AmbientCaps = capabilities()
}

// Same makes attr start a process in a new namespace with all capabilities there, in which users are who they are here.
func Same(attr *syscall.SysProcAttr) error {
	users, err := mappings("/proc/self/uid_map")
	if err != nil {
		return err
	}
	groups, err := mappings("/proc/self/gid_map")
	if err != nil {
		return err
	}
	denied, _ := os.ReadFile("/proc/self/setgroups")
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings, attr.GidMappings = users, groups
	attr.GidMappingsEnableSetgroups = strings.TrimSpace(string(denied)) != "deny"
	if os.Geteuid() != 0 {
		attr.AmbientCaps = capabilities()
	}
	return nil
}

// mappings reads which numbers this process's namespace has, each line the first, the one outside, and how many there are.
func mappings(file string) (all []syscall.SysProcIDMap, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		var first, outside, n int
		if _, err := fmt.Sscan(line, &first, &outside, &n); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		all = append(all, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: n})
	}
	return all, nil
}

// Keep makes attr start a process with all capabilities of the namespace in which this one is Inside. Without it, after
// Confine, processes have none.
func Keep(attr *syscall.SysProcAttr) { attr.AmbientCaps = capabilities() }

// Confine keeps this process's capabilities to itself: what it executes has none, unless Keep says so. Not for programs with cgo.
func Confine() error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); errno != 0 {
		return fmt.Errorf("clear ambient capabilities: %w", errno)
	}
	return nil
}

// capabilities lists all that the kernel knows.
func capabilities() []uintptr {
	last := unix.CAP_LAST_CAP
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			last = min(n, 63)
		}
	}
	all := make([]uintptr, last+1)
	for c := range all {
		all[c] = uintptr(c)
	}
	return all
}

// Of opens the user namespace of a process. Whoever calls must be its owner, in the namespace around it, or in it.
func Of(pid int) (*os.File, error) { return os.Open(fmt.Sprintf("/proc/%d/ns/user", pid)) }

// Owned is Of, where that is another one than this process's and belongs to its user; nil elsewhere.
func Owned(pid int) *os.File {
	ns, err := Of(pid)
	if err != nil {
		return nil
	}
	owner, err := unix.IoctlGetUint32(int(ns.Fd()), unix.NS_GET_OWNER_UID)
	if err != nil || int(owner) != os.Geteuid() || Shared(pid) {
		ns.Close()
		return nil
	}
	return ns
}

// Shared reports whether a process is in the user namespace of this one.
func Shared(pid int) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return false
	}
	ours, err := os.Readlink("/proc/self/ns/user")
	return err == nil && theirs == ours
}
