package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OwnRoot gives the caller's mount namespace a root of its own: what is mounted at and below the caller's / and nothing
// around it. A chroot is no prison to a process that may call chroot, so that covers over its folders would not do. Nothing that
// is mounted in the namespace shows elsewhere afterwards. It is the first thing that Enter does.
func OwnRoot() error {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /: %w", err)
	}
	defer unix.Close(root)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		// Out of a chroot, if this is one: / may be a folder that is no mount, or the root of one below the namespace's.
		{"stay outside of the next root", func() error { return unix.Chdir("/") }},
		{"change the root", func() error { return unix.Chroot("/proc") }},
		{"go up to the namespace's root", func() error { return unix.Chdir(strings.Repeat("../", 1000)) }},
		{"make it the root", func() error { return unix.Chroot(".") }},
		{"private mounts", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		// A copy of the tree that was /, mounted where it can be found: over its own /proc, which the copy has as well.
		{"go back", func() error { return unix.Fchdir(root) }},
		{"copy the mounts", func() error { return unix.Mount(".", "proc", "", unix.MS_BIND|unix.MS_REC, "") }},
		{"go to the copy", func() error { return unix.Chdir("proc") }},
		{"make the copy the root", func() error { return unix.PivotRoot(".", ".") }},
		{"unmount what was the root", func() error { return unix.Unmount(".", unix.MNT_DETACH) }},
		{"go to the new root", func() error { return unix.Chdir("/") }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// kernelTypes are file systems that show or steer the kernel. Whoever made a chroot or an image has mounted some of them a
// second time.
var kernelTypes = []string{
	"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "selinuxfs", "smackfs",
	"configfs", "bpf", "mqueue", "pstore", "efivarfs", "binfmt_misc", "fusectl", "rpc_pipefs", "nfsd", "resctrl",
}

// disarm takes away all such mounts but those that the sandbox covers with its own, and the use of device nodes from
// all others.
func disarm() error {
	mounts, err := mountTable()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) { // what lies on top comes first
		if m.below("/proc") || m.below("/sys") || m.below("/dev") {
			continue
		}
		kernel := slices.Contains(kernelTypes, m.fstype)
		if !kernel && slices.Contains(m.options, "nodev") {
			continue
		}
		if err := m.disarm(kernel); err != nil {
			return fmt.Errorf("disarm the %s on %s: %w", m.fstype, m.path, err)
		}
	}
	return nil
}

// disarm unmounts m, or makes it nodev. Its path may lead to another mount, on top of this one or around it: then nobody can
// name this one, and it is left alone.
func (m mounted) disarm(unmount bool) error {
	fd, err := unix.Open(m.path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if errors.Is(err, unix.EACCES) { // in a user namespace: its user may not go there, and so nobody in the sandbox
		return nil
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), m.path)
	defer f.Close()
	id, err := mountOf(f)
	if err != nil || id != m.id {
		return err
	}
	if unmount {
		err := unix.Unmount(fdPath(f), unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) { // in a user namespace the host's mounts stay: it is covered
			err = mask([]string{m.path})
		}
		return err
	}
	return unix.Mount("", fdPath(f), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODEV|m.flags(), "")
}

// mountOf is the id of the mount that f lies in, see proc_pid_fdinfo(5); statx tells it only since Linux 5.8.
func mountOf(f *os.File) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strings.TrimSpace(id), nil
		}
	}
	return "", fmt.Errorf("/proc/self/fdinfo does not tell the mount of %s", f.Name())
}

// mounted is a line of mountinfo.
type mounted struct {
	id, path, fstype string
	options          []string
}

func (m mounted) below(dir string) bool { return m.path == dir || strings.HasPrefix(m.path, dir+"/") }

// flags are the options that a remount would otherwise drop. It keeps those about access times by itself.
func (m mounted) flags() (flags uintptr) {
	for option, flag := range map[string]uintptr{"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "noexec": unix.MS_NOEXEC} {
		if slices.Contains(m.options, option) {
			flags |= flag
		}
	}
	return flags
}

// mountTable reads /proc/self/mountinfo, see proc_pid_mountinfo(5): the mount's id is field 1, its path field 5, its
// options are field 6, and the type is the first field after a lone hyphen.
func mountTable() ([]mounted, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(b))
}

func parseMounts(text string) ([]mounted, error) {
	var mounts []mounted
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 1 {
			return nil, fmt.Errorf("/proc/self/mountinfo has a line of another form: %.100q", line)
		}
		mounts = append(mounts, mounted{id: left[0], path: unescaped(left[4]), fstype: right[0], options: strings.Split(left[5], ",")})
	}
	return mounts, nil
}

// unescaped replaces the octal escapes of mountinfo.
func unescaped(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+4 > len(s) {
			return b.String() + s
		}
		c, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return b.String() + s
		}
		b.WriteString(s[:i])
		b.WriteByte(byte(c))
		s = s[i+4:]
	}
}
