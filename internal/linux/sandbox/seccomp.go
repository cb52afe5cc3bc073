package sandbox

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone and unshare that make namespaces. A user namespace gives all capabilities in it, and with
// them mounts of file systems, such as the host's control groups, that nobody here may see. CLONE_NEWTIME is a flag of
// unshare only: in clone it is part of the signal.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// refused are system calls that a container's default profile keeps for those with more rights: other namespaces and mounts, the
// keyrings, which are the host user's, files by handle, the kernel's log, and the parts of the kernel in which most of its holes were.
// For the last three lines (another kernel, its modules, the machine's clock, disks and names, what all others do with files)
// the kernel asks for capabilities as well, of which engines have none. docs/security.md has a reason for each.
var refused = []uint32{
	unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, sysOpenTreeAttr,
	unix.SYS_ADD_KEY, unix.SYS_KEYCTL, unix.SYS_REQUEST_KEY,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_SYSLOG,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_FANOTIFY_INIT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// families are the kinds of sockets that there are for engines. All others look as if this kernel had none of them: they reach
// past the network namespace (AF_VSOCK: the machine's host), or are parts of the kernel that a program without rights
// makes it load and that hardly anybody needs (AF_ALG, the kernel's ciphers). AF_PACKET is refused to engines by the kernel,
// which wants a capability for it.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET}

// sysOpenTreeAttr is open_tree_attr(2) of Linux 6.15, for which x/sys has no name yet. The number is the same everywhere.
const sysOpenTreeAttr = 467

// x32 marks the calls of amd64's other ABI: the same calls under other numbers.
const x32 = 0x40000000

// architectures are those for which engines can be: others' numbers mean other calls.
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// nsioMagic is the type of namespaces' ioctls, see ioctl_nsfs(2).
const nsioMagic = 0xb7

// Offsets in struct seccomp_data, see seccomp(2); arguments are little-endian 64 bit.
const (
	dataCall = 0
	dataArch = 4
	dataArg0 = 16
	dataArg1 = 24
	dataArg2 = 32
)

const (
	allow      = unix.SECCOMP_RET_ALLOW
	notAllowed = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown    = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS) // callers fall back to an older call
	noProtocol = unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)
	noFamily   = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
)

func architecture() (uint32, error) {
	arch, ok := architectures[runtime.GOARCH]
	if !ok {
		return 0, fmt.Errorf("no system call filter is known for %s", runtime.GOARCH)
	}
	return arch, nil
}

// filterCalls puts the filter on all threads of this process, and so on everything that it starts. No-new-privileges must
// be set.
func filterCalls(refused []uint32) error {
	arch, err := architecture()
	if err != nil {
		return err
	}
	filter := callFilter(arch, refused)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("filter system calls: thread %d has a filter of its own", thread)
	}
	return nil
}

// callFilter writes the filter as a program for the kernel's packet filter machine: tests one after the other, each of which
// ends the program or goes on with the next.
func callFilter(arch uint32, refused []uint32) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		end    = unix.BPF_RET | unix.BPF_K
	)
	f := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: end, K: notAllowed},
		{Code: load, K: dataCall},
	}
	if arch == unix.AUDIT_ARCH_X86_64 {
		f = append(f, unix.SockFilter{Code: anyBit, K: x32, Jf: 1}, unix.SockFilter{Code: end, K: notAllowed})
	}
	for _, call := range refused {
		f = append(f, unix.SockFilter{Code: equal, K: call, Jf: 1}, unix.SockFilter{Code: end, K: notAllowed})
	}
	f = append(f, unix.SockFilter{Code: equal, K: unix.SYS_CLONE3, Jf: 1}, unix.SockFilter{Code: end, K: unknown})
	for _, c := range []struct {
		call, test uint32 // with a first argument for which the test is true
		value      uint32
	}{
		{unix.SYS_CLONE, anyBit, newNamespaces},
		{unix.SYS_UNSHARE, anyBit, newNamespaces | unix.CLONE_NEWTIME},
	} {
		f = append(f,
			unix.SockFilter{Code: equal, K: c.call, Jf: 4},
			unix.SockFilter{Code: load, K: dataArg0},
			unix.SockFilter{Code: uint16(c.test), K: c.value, Jf: 1},
			unix.SockFilter{Code: end, K: notAllowed},
			unix.SockFilter{Code: load, K: dataCall},
		)
	}
	// What a descriptor of a namespace tells of others: on Linux 6.11 one finds mount namespaces by it, among them those of inits whose
	// sandbox is being made, and a zygote may enter what it has found.
	f = append(f,
		unix.SockFilter{Code: equal, K: unix.SYS_IOCTL, Jf: 5},
		unix.SockFilter{Code: load, K: dataArg1},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xff00},
		unix.SockFilter{Code: equal, K: nsioMagic << 8, Jf: 1},
		unix.SockFilter{Code: end, K: notAllowed},
		unix.SockFilter{Code: load, K: dataCall},
	)
	f = append(f,
		unix.SockFilter{Code: equal, K: unix.SYS_SOCKETPAIR, Jt: 1}, // which makes the kernel load a family, too
		unix.SockFilter{Code: equal, K: unix.SYS_SOCKET, Jf: uint8(len(families) + 3)},
		unix.SockFilter{Code: load, K: dataArg0},
	)
	for i, family := range families {
		f = append(f, unix.SockFilter{Code: equal, K: family, Jt: uint8(len(families) - i)})
	}
	f = append(f,
		unix.SockFilter{Code: end, K: noFamily},
		unix.SockFilter{Code: load, K: dataCall},
	)
	// The kernel's audit looks absent. A container's rights allow no records, and programs that find audit but may not write
	// (those of root's that let people in at a terminal, such as sshd) give up, where they go on without it.
	f = append(f,
		unix.SockFilter{Code: equal, K: unix.SYS_SOCKET, Jf: 5},
		unix.SockFilter{Code: load, K: dataArg0},
		unix.SockFilter{Code: equal, K: unix.AF_NETLINK, Jf: 3},
		unix.SockFilter{Code: load, K: dataArg2},
		unix.SockFilter{Code: equal, K: unix.NETLINK_AUDIT, Jf: 1},
		unix.SockFilter{Code: end, K: noProtocol},
	)
	return append(f, unix.SockFilter{Code: end, K: allow})
}
