package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// readOnlyProc and maskedProc are the parts of /proc through which a process with uid 0 could change or read the host.
// The lists follow what container runtimes cover (the OCI runtime specification's defaults).
var (
	readOnlyProc = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"}
	maskedProc   = []string{
		"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kmsg",
	}
	maskedSys = []string{"/sys/firmware", "/sys/kernel/security", "/sys/devices/virtual/powercap"}
)

// coverProc mounts the /proc of the engine's own process namespace.
func coverProc() error {
	if err := mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := readOnly(readOnlyProc); err != nil {
		return err
	}
	return mask(maskedProc)
}

// coverSys mounts a fresh /sys, read-only, in place of the host's: it shows the engine's own network devices and, of all control
// groups, the engine's own.
func coverSys(own Groups) error {
	if own.any() {
		if err := stageGroups(own); err != nil {
			return err
		}
	}
	// Not only covered: programs read in the table of mounts where the groups are. EINVAL: in a chroot it may be a folder.
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount the host's /sys: %w", err)
	}
	err := mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if errors.Is(err, unix.EPERM) { // in a user namespace with the host's network: the host's, which cannot be unmounted there
		if err = makeReadOnly("/sys"); err == nil && !own.any() {
			err = mask([]string{groupsDir})
		}
	}
	if err != nil {
		return err
	}
	if own.any() {
		if err := moveGroups(); err != nil {
			return err
		}
	}
	return mask(maskedSys)
}

func readOnly(paths []string) error {
	for _, p := range paths {
		if err := makeReadOnly(p); err != nil {
			return err
		}
	}
	return nil
}

func makeReadOnly(path string) error {
	if _, err := os.Stat(path); err != nil {
		return nil // this kernel does not have it
	}
	if err := mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// mask covers files by /dev/null and folders by an empty read-only one.
func mask(paths []string) error {
	for _, p := range paths {
		st, err := os.Stat(p)
		switch {
		case err != nil: // this kernel does not have it
		case st.IsDir():
			if err := mount("tmpfs", p, "tmpfs", unix.MS_RDONLY|hiddenFlags, "size=4k,mode=0555"); err != nil {
				return err
			}
		default:
			if err := mount("/dev/null", p, "", unix.MS_BIND, ""); err != nil {
				return err
			}
		}
	}
	return nil
}
