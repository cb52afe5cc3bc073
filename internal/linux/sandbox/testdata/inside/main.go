// Command inside enters a sandbox, gives up its rights and tries what must not be possible. Its test starts it in fresh
// namespaces with a Config as JSON on stdin; it prints a line for each finding.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/internal/linux/sandbox"
)

func init() { runtime.LockOSThread() }

func main() {
	paths := strings.Split(os.Getenv("LOOK"), "\n")
	if len(os.Args) > 1 {
		try(paths)
		return
	}
	if dir := os.Getenv("CHROOT"); dir != "" {
		if err := chroot(dir); err != nil {
			fail("chroot", err)
		}
	}
	if dir := os.Getenv("KERNEL_MOUNTS"); dir != "" {
		if err := kernelMounts(dir); err != nil {
			fail("kernel mounts", err)
		}
		look("before: ", paths)
	}
	if dir := os.Getenv("STACKED_MOUNTS"); dir != "" {
		if err := stackedMounts(dir); err != nil {
			fail("stacked mounts", err)
		}
	}
	var c sandbox.Config
	if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
		fail("config", err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		fail("self", err)
	}
	if err := sandbox.Enter(c); err != nil {
		fail("enter", err)
	}
	if err := sandbox.DropRights(); err != nil {
		fail("drop rights", err)
	}
	// PrivateDir is not executable: the program goes to /tmp, which is.
	if err := os.WriteFile("/tmp/inside", self, 0o755); err != nil {
		fail("copy", err)
	}
	pid, err := syscall.ForkExec("/tmp/inside", []string{"inside", "try"}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID)}},
	})
	if err != nil {
		fail("exec", err)
	}
	var ws syscall.WaitStatus
	syscall.Wait4(pid, &ws, 0, nil)
	os.Exit(ws.ExitStatus())
}

// chroot makes dir the root, with the file systems that programs need.
func chroot(dir string) error {
	if err := sandbox.OwnRoot(); err != nil { // or the mounts would show on the host
		return err
	}
	if os.Getenv("CHROOT_IS_MOUNT") != "" {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, d := range []string{"/dev", "/proc", "/sys"} {
		if err := unix.Mount(d, dir+d, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// kernelMounts mounts in dir what a chroot or an image has there, and makes a device node.
func kernelMounts(dir string) error {
	if err := sandbox.OwnRoot(); err != nil {
		return err
	}
	for _, c := range []struct{ source, name, fstype, options string }{
		{"proc", "proc", "proc", ""}, {"sysfs", "sys", "sysfs", ""}, {"cgroup", "cgroup", "cgroup", "memory"}, {"tmpfs", "dev", "tmpfs", ""},
	} {
		if err := unix.Mount(c.source, dir+"/"+c.name, c.fstype, 0, c.options); err != nil && c.name != "cgroup" {
			return err // the machine may have no control groups of version 1
		}
	}
	return unix.Mknod(dir+"/dev/zero", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
}

// stackedMounts mounts on top of each other, in dir: a writable and a read-only view of ro, a proc and a tmpfs on cover, and
// two procs on twice.
func stackedMounts(dir string) error {
	if err := sandbox.OwnRoot(); err != nil {
		return err
	}
	ro := dir + "/ro"
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{ro, ro, "", unix.MS_BIND}, {ro, ro, "", unix.MS_BIND}, {"", ro, "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
		{"proc", dir + "/cover", "proc", 0}, {"tmpfs", dir + "/cover", "tmpfs", 0},
		{"proc", dir + "/twice", "proc", 0}, {"proc", dir + "/twice", "proc", 0},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("%s: %w", m.target, err)
		}
	}
	return os.WriteFile(dir+"/cover/file", nil, 0o644)
}

func fail(what string, err error) {
	fmt.Printf("failed %s: %v\n", what, err)
	os.Exit(1)
}

// try prints "can X" or "cannot X", and for each path "yes PATH" or "no PATH", also from outside of
// a chroot that it has left.
func try(paths []string) {
	must := func(name string, err error) {
		if err == nil {
			fmt.Println("can", name)
		} else {
			fmt.Println("cannot", name)
		}
	}
	must("mount", unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""))
	must("umount", unix.Unmount("/tmp", unix.MNT_DETACH))
	must("remount /proc/sys", unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT, ""))
	must("mknod", unix.Mknod("/tmp/node", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))))
	must("trace the init", unix.PtraceAttach(1))
	_, err := os.Readlink("/proc/1/fd/0")
	must("look into the init", err)
	_, err = os.ReadDir("/proc/1/root")
	must("go through the init", err)
	_, err = os.Open("/proc/1/mem")
	must("read the init's memory", err)
	must("write /proc/sys", os.WriteFile("/proc/sys/kernel/domainname", []byte("x"), 0o644))
	must("write /sys", os.WriteFile("/sys/kernel/mm/ksm/run", []byte("0"), 0o644))
	must("make a control group", os.Mkdir("/sys/fs/cgroup/mine", 0o755))
	group, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(group)) {
		if strings.HasPrefix(line, "0::") { // of version 2
			fmt.Print("own group ", line)
		}
	}
	must("set the hostname", unix.Sethostname([]byte("x")))
	must("make a namespace", unix.Unshare(unix.CLONE_NEWNS))
	must("make a user namespace", unix.Unshare(unix.CLONE_NEWUSER))
	must("start a process in a user namespace", (&exec.Cmd{Path: "/proc/self/exe", SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}}).Start())
	must("enter a namespace", unix.Setns(int(os.Stdin.Fd()), 0))
	_, err = unix.AddKey("user", "muster-test", []byte("x"), unix.KEY_SPEC_USER_KEYRING)
	must("use the user's keyring", err)
	_, err = unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	must("read the kernel's log", err)
	// These two answers are the filter's: without it the kernel has others, also for processes without rights.
	_, err = unix.Socket(unix.AF_VSOCK, noType, 0)
	must("open a socket to the machine's host", only(err, unix.EAFNOSUPPORT))
	_, _, errno := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	must("call clone3", only(errno, unix.ENOSYS))
	must("unshare its files", unix.Unshare(unix.CLONE_FILES))
	if dir := os.Getenv("KERNEL_MOUNTS"); dir != "" {
		_, err = os.Open(dir + "/dev/zero")
		must("open a device node", err)
	}
	if dir := os.Getenv("STACKED_MOUNTS"); dir != "" {
		must("write to what is read-only", os.WriteFile(dir+"/ro/new", nil, 0o600))
	}
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	must("open a raw socket", err)
	must("write /tmp", os.WriteFile("/tmp/file", nil, 0o600))
	must("write /dev/shm", os.WriteFile("/dev/shm/file", nil, 0o600))
	for path := range strings.FieldsSeq(os.Getenv("WRITE")) {
		must("write "+path, os.WriteFile(path, nil, 0o600))
	}
	_, err = os.ReadFile(sandbox.PrivateDir + "/program")
	must("read private files", err)
	if groups, err := os.Getgroups(); err != nil || len(groups) > 0 {
		fmt.Println("can keep supplementary groups:", groups, err)
	} else {
		fmt.Println("cannot keep supplementary groups")
	}
	look("", paths)
	err = unix.Chroot("/proc") // a root below the working folder: the way up is open
	must("change the root", err)
	if err == nil {
		unix.Chdir(strings.Repeat("../", 100))
		unix.Chroot(".")
		look("beyond the root: ", paths)
	}
}

// noType is no type of sockets.
const noType = 99

// only is nil unless err is the one that is wanted.
func only(err error, want unix.Errno) error {
	if errors.Is(err, want) {
		return err
	}
	return nil
}

func look(prefix string, paths []string) {
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			fmt.Println(prefix+"no", p)
			continue
		}
		if err := unix.Access(p, unix.R_OK); err != nil {
			fmt.Println(prefix+"closed", p)
			continue
		}
		fmt.Println(prefix+"yes", p)
	}
}
