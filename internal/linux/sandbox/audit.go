package sandbox

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// auditArch are the machines for which NoAudit is written; both keep the low half of an argument first.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// NoAudit makes the kernel's audit look absent to what the calling thread starts. A container's rights do not allow audit
// records, and programs that find audit but may not write (login programs of root's, such as sshd with a terminal) give up,
// where they go on without it. The caller must be locked to its thread and have no-new-privileges.
func NoAudit() error {
	arch, known := auditArch[runtime.GOARCH]
	if !known {
		return nil
	}
	const load, jump, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	// Offsets into the kernel's struct seccomp_data: number 0, machine 4, arguments 16, 24, 32.
	filter := []unix.SockFilter{
		{Code: load, K: 4},
		{Code: jump, K: arch, Jf: 6},
		{Code: load, K: 0},
		{Code: jump, K: unix.SYS_SOCKET, Jf: 4},
		{Code: load, K: 16},
		{Code: jump, K: unix.AF_NETLINK, Jf: 2},
		{Code: load, K: 32},
		{Code: jump, K: unix.NETLINK_AUDIT, Jt: 1},
		{Code: give, K: unix.SECCOMP_RET_ALLOW},
		{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Without the flag older kernels slow down what runs behind a filter, as if it were code that nobody trusts.
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 && errno != unix.ENOSYS && errno != unix.EINVAL { // a kernel without filters
		return fmt.Errorf("hide audit: %w", errno)
	}
	return nil
}
