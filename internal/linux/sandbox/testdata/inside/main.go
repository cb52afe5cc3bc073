// Command inside enters a sandbox, gives up its rights and tries what must not be possible. Its test starts it in fresh
// namespaces with a Config as JSON on stdin; it prints a line for each finding.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/internal/linux/sandbox"
)

func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 {
		try(os.Args[1:])
		return
	}
	if dir := os.Getenv("CHROOT"); dir != "" {
		if err := chroot(dir); err != nil {
			fail("chroot", err)
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
	pid, err := syscall.ForkExec("/tmp/inside", append([]string{"inside"}, strings.Fields(os.Getenv("LOOK"))...), &syscall.ProcAttr{
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

// chroot makes dir, which is no mount, the root, with the file systems that programs need.
func chroot(dir string) error {
	if err := sandbox.OwnRoot(); err != nil { // or the mounts would show on the host
		return err
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
	must("write /sys", os.WriteFile("/sys/kernel/uevent_helper", []byte("x"), 0o644))
	must("set the hostname", unix.Sethostname([]byte("x")))
	must("make a namespace", unix.Unshare(unix.CLONE_NEWNS))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	must("open a raw socket", err)
	must("write /tmp", os.WriteFile("/tmp/file", nil, 0o600))
	must("write /dev/shm", os.WriteFile("/dev/shm/file", nil, 0o600))
	_, err = os.ReadFile(sandbox.PrivateDir + "/program")
	must("read private files", err)
	groups, err := os.Getgroups()
	if err == nil && len(groups) > 0 && os.Getuid() != 0 {
		err = nil
	} else {
		err = unix.EPERM
	}
	must("keep supplementary groups", err)
	look("", paths)
	err = unix.Chroot("/proc") // a root below the working folder: the way up is open
	must("change the root", err)
	if err == nil {
		unix.Chdir(strings.Repeat("../", 100))
		unix.Chroot(".")
		look("beyond the root: ", paths)
	}
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
