package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the process that makes the calls.
func TestMain(m *testing.M) {
	switch os.Getenv("CALLS") {
	case "":
		os.Exit(m.Run())
	case "filtered":
		// With all rights: what is refused now, the filter refuses.
		runtime.LockOSThread()
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if err := filterCalls(refused); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	if program := os.Getenv("EXEC"); program != "" {
		fmt.Println(syscall.Exec(program, []string{program}, nil))
		os.Exit(1)
	}
	for _, c := range calls {
		_, _, errno := unix.RawSyscall(c.number, c.a1, c.a2, c.a3)
		fmt.Printf("%s: %s\n", c.name, nameOf(errno))
	}
	os.Exit(0)
}

func nameOf(errno unix.Errno) string {
	if errno == 0 {
		return "done"
	}
	return unix.ErrnoName(errno)
}

type call struct {
	name       string
	number     uintptr
	a1, a2, a3 uintptr
	want       string // what the filter answers; "": it lets the call pass
}

const (
	unknownFlag = unix.CLONE_PTRACE  // not one of unshare's: the kernel says EINVAL before it does anything
	noVM        = unix.CLONE_SIGHAND // not in clone without CLONE_VM: EINVAL
	noType      = 99                 // of sockets
	none        = ^uintptr(0)        // -1: no such descriptor, flags, length or command
)

// calls are made with arguments of which the kernel itself makes nothing: it says EINVAL, EFAULT, EBADF or the like.
var calls = append([]call{
	{"setns", unix.SYS_SETNS, 0, 0, 0, "EPERM"},
	{"ioctl of a namespace", unix.SYS_IOCTL, none, unix.NS_GET_USERNS, 0, "EPERM"},
	{"ioctl of another kind", unix.SYS_IOCTL, none, unix.TCGETS, 0, ""},
	{"mount", unix.SYS_MOUNT, 0, 0, 0, "EPERM"},
	{"umount2", unix.SYS_UMOUNT2, 0, 0, 0, "EPERM"},
	{"pivot_root", unix.SYS_PIVOT_ROOT, 0, 0, 0, "EPERM"},
	{"open_tree", 428, 0, 0, 0, "EPERM"},
	{"move_mount", 429, 0, 0, 0, "EPERM"},
	{"fsopen", 430, 0, 0, 0, "EPERM"},
	{"fsconfig", 431, 0, 0, 0, "EPERM"},
	{"fsmount", 432, 0, 0, 0, "EPERM"},
	{"fspick", 433, 0, 0, 0, "EPERM"},
	{"mount_setattr", 442, 0, 0, 0, "EPERM"},
	{"open_tree_attr", 467, 0, 0, 0, "EPERM"},
	{"add_key", unix.SYS_ADD_KEY, 0, 0, 0, "EPERM"},
	{"keyctl", unix.SYS_KEYCTL, 0, 0, 0, "EPERM"},
	{"request_key", unix.SYS_REQUEST_KEY, 0, 0, 0, "EPERM"},
	{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0, "EPERM"},
	{"syslog", unix.SYS_SYSLOG, 0, 0, 0, "EPERM"},
	{"bpf", unix.SYS_BPF, 0, 0, 0, "EPERM"},
	{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, "EPERM"},
	{"userfaultfd", unix.SYS_USERFAULTFD, 0, 0, 0, "EPERM"},
	{"io_uring_setup", 425, 0, 0, 0, "EPERM"},
	{"io_uring_enter", 426, 0, 0, 0, "EPERM"},
	{"io_uring_register", 427, 0, 0, 0, "EPERM"},
	{"kexec_load", unix.SYS_KEXEC_LOAD, 0, 99, 0, "EPERM"}, // more segments than there may be
	{"kexec_file_load", unix.SYS_KEXEC_FILE_LOAD, none, none, 0, "EPERM"},
	{"init_module", unix.SYS_INIT_MODULE, 0, 0, 0, "EPERM"},
	{"finit_module", unix.SYS_FINIT_MODULE, none, 0, none, "EPERM"},
	{"delete_module", unix.SYS_DELETE_MODULE, 0, 0, 0, "EPERM"},
	{"reboot", unix.SYS_REBOOT, 0, 0, 0, "EPERM"},
	{"swapon", unix.SYS_SWAPON, 0, none, 0, "EPERM"},
	{"swapoff", unix.SYS_SWAPOFF, 0, 0, 0, "EPERM"},
	{"acct", unix.SYS_ACCT, 1, 0, 0, "EPERM"}, // no such address
	{"quotactl", unix.SYS_QUOTACTL, none, 1, 0, "EPERM"},
	{"quotactl_fd", unix.SYS_QUOTACTL_FD, none, none, 0, "EPERM"},
	{"fanotify_init", unix.SYS_FANOTIFY_INIT, none, none, 0, "EPERM"},
	{"settimeofday", unix.SYS_SETTIMEOFDAY, 1, 0, 0, "EPERM"},
	{"clock_settime", unix.SYS_CLOCK_SETTIME, 99, 0, 0, "EPERM"},
	{"sethostname", unix.SYS_SETHOSTNAME, 0, none, 0, "EPERM"},
	{"setdomainname", unix.SYS_SETDOMAINNAME, 0, none, 0, "EPERM"},
	{"clone3", 435, 0, 0, 0, "ENOSYS"},

	{"clone NEWNS", unix.SYS_CLONE, unix.CLONE_NEWNS | noVM, 0, 0, "EPERM"},
	{"clone NEWCGROUP", unix.SYS_CLONE, unix.CLONE_NEWCGROUP | noVM, 0, 0, "EPERM"},
	{"clone NEWUTS", unix.SYS_CLONE, unix.CLONE_NEWUTS | noVM, 0, 0, "EPERM"},
	{"clone NEWIPC", unix.SYS_CLONE, unix.CLONE_NEWIPC | noVM, 0, 0, "EPERM"},
	{"clone NEWUSER", unix.SYS_CLONE, unix.CLONE_NEWUSER | noVM, 0, 0, "EPERM"},
	{"clone NEWPID", unix.SYS_CLONE, unix.CLONE_NEWPID | noVM, 0, 0, "EPERM"},
	{"clone NEWNET", unix.SYS_CLONE, unix.CLONE_NEWNET | noVM, 0, 0, "EPERM"},
	{"clone", unix.SYS_CLONE, unix.CLONE_NEWTIME | noVM, 0, 0, ""}, // in clone this flag is part of the signal

	{"unshare NEWNS", unix.SYS_UNSHARE, unix.CLONE_NEWNS | unknownFlag, 0, 0, "EPERM"},
	{"unshare NEWCGROUP", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP | unknownFlag, 0, 0, "EPERM"},
	{"unshare NEWUTS", unix.SYS_UNSHARE, unix.CLONE_NEWUTS | unknownFlag, 0, 0, "EPERM"},
	{"unshare NEWIPC", unix.SYS_UNSHARE, unix.CLONE_NEWIPC | unknownFlag, 0, 0, "EPERM"},
	{"unshare NEWUSER", unix.SYS_UNSHARE, unix.CLONE_NEWUSER | unknownFlag, 0, 0, "EPERM"},
	{"unshare NEWPID", unix.SYS_UNSHARE, unix.CLONE_NEWPID | unknownFlag, 0, 0, "EPERM"},
	{"unshare NEWNET", unix.SYS_UNSHARE, unix.CLONE_NEWNET | unknownFlag, 0, 0, "EPERM"},
	{"unshare NEWTIME", unix.SYS_UNSHARE, unix.CLONE_NEWTIME | unknownFlag, 0, 0, "EPERM"},
	{"unshare", unix.SYS_UNSHARE, unknownFlag, 0, 0, ""},

	{"socket VSOCK", unix.SYS_SOCKET, unix.AF_VSOCK, noType, 0, "EAFNOSUPPORT"},
	{"socket ALG", unix.SYS_SOCKET, unix.AF_ALG, noType, 0, "EAFNOSUPPORT"},
	{"socket KEY", unix.SYS_SOCKET, unix.AF_KEY, noType, 0, "EAFNOSUPPORT"},
	{"socket of no family", unix.SYS_SOCKET, unix.AF_UNSPEC, noType, 0, "EAFNOSUPPORT"},
	{"socket XDP", unix.SYS_SOCKET, unix.AF_XDP, noType, 0, "EAFNOSUPPORT"},
	{"socketpair TIPC", unix.SYS_SOCKETPAIR, unix.AF_TIPC, noType, 0, "EAFNOSUPPORT"},
	{"socketpair ALG", unix.SYS_SOCKETPAIR, unix.AF_ALG, noType, 0, "EAFNOSUPPORT"},
	{"socketpair UNIX", unix.SYS_SOCKETPAIR, unix.AF_UNIX, noType, 0, ""},
	{"socket INET", unix.SYS_SOCKET, unix.AF_INET, noType, 0, ""},
	{"socket INET6", unix.SYS_SOCKET, unix.AF_INET6, noType, 0, ""},
	{"socket PACKET", unix.SYS_SOCKET, unix.AF_PACKET, noType, 0, ""},
	{"socket AUDIT", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT, "EPROTONOSUPPORT"},
	{"socket ROUTE", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, ""},
	{"socket UNIX", unix.SYS_SOCKET, unix.AF_UNIX, noType, unix.NETLINK_AUDIT, ""},
}, foreignCalls...)

// makeCalls makes them in a process of their own.
func makeCalls(t *testing.T, how string) map[string]string {
	t.Helper()
	out, err := callsProcess(how, "").CombinedOutput()
	if err != nil {
		t.Fatalf("%s calls: %v\n%s", how, err, out)
	}
	answers := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, answer, _ := strings.Cut(strings.TrimSpace(line), ": ")
		answers[name] = answer
	}
	return answers
}

func callsProcess(how, program string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"CALLS=" + how, "EXEC=" + program}
	// What some of the calls would do if they were done is nobody else's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	return cmd
}

// Each call gets the filter's own answer, and not the one that the kernel has for it anyway.
func TestCallFilter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: without it the kernel refuses some calls by itself")
	}
	plain, filtered := makeCalls(t, "plain"), makeCalls(t, "filtered")
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			if c.want == "" {
				if filtered[c.name] != plain[c.name] || filtered[c.name] == "EPERM" {
					t.Errorf("filtered %q, else %q: it should pass", filtered[c.name], plain[c.name])
				}
				return
			}
			if filtered[c.name] != c.want {
				t.Errorf("the filter answers %q, want %s (without a filter: %q)", filtered[c.name], c.want, plain[c.name])
			}
			if plain[c.name] == c.want {
				t.Skipf("capability %s: this kernel says %s by itself", c.name, c.want)
			}
		})
	}
}

// Every call that the filter refuses is in the list above.
func TestCallFilterIsTested(t *testing.T) {
	for _, number := range refused {
		tested := false
		for _, c := range calls {
			tested = tested || c.number == uintptr(number) && c.want == "EPERM"
		}
		if !tested {
			t.Errorf("call %d is refused, and no test makes it", number)
		}
	}
}
