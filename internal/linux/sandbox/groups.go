package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Groups are the control groups of an engine. The zero value: none.
type Groups struct {
	V1 map[string]string // controller to folder
	V2 string            // folder
	// AllThreads says that not only the calling thread starts processes which are to see them so.
	AllThreads bool
}

func (g Groups) any() bool { return len(g.V1) > 0 || g.V2 != "" }

// groupsDir is where programs look for the memory and the CPUs that they may use: Java's and Node's runtimes, Dask, Ray, R's
// parallelly. Where they find nothing they take the whole machine's for theirs, and are killed at the limit.
const groupsDir = "/sys/fs/cgroup"

// stagedGroups is where the groups are mounted while the host's /sys is still there.
const stagedGroups = "/dev/.muster-cgroup"

// stageGroups mounts the engine's own control groups, read-only, as a container sees its own: nothing of the groups around them,
// and paths in /proc/self/cgroup that begin at them.
func stageGroups(own Groups) error {
	unshare := func() error { return unix.Unshare(unix.CLONE_NEWCGROUP) }
	if own.AllThreads { // which have to be woken, one by one
		unshare = func() error { return allThreads(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP, 0, 0) }
	}
	if err := unshare(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("make a cgroup namespace: %w", err) // EINVAL: this kernel has none
	}
	if err := mkdirMode(stagedGroups, 0o755); err != nil {
		return err
	}
	if len(own.V1) == 0 {
		return bindReadOnly(own.V2, stagedGroups)
	}
	if err := mount("tmpfs", stagedGroups, "tmpfs", hiddenFlags, "size=64k,mode=0755"); err != nil {
		return err
	}
	dirs := map[string]string{}
	for controller, dir := range own.V1 {
		dirs[controller] = dir
	}
	if own.V2 != "" {
		dirs["unified"] = own.V2
	}
	for name, dir := range dirs {
		place := filepath.Join(stagedGroups, name)
		if err := mkdirMode(place, 0o755); err != nil {
			return err
		}
		if err := bindReadOnly(dir, place); err != nil {
			return err
		}
	}
	if own.V1["cpuset"] == "" {
		if err := seemCPUSet(); err != nil {
			return err
		}
	}
	return mount("", stagedGroups, "", unix.MS_REMOUNT|unix.MS_RDONLY|hiddenFlags, "")
}

// seemCPUSet puts a cpuset into the table of mounts, with nothing to be seen in it. Java's virtual machine (seen with OpenJDK 17)
// takes no notice of any limit of version 1 where that is missing, and engines have no such group of their own: it would cost
// each of them more than all this.
func seemCPUSet() error {
	const host = groupsDir + "/cpuset"
	if _, err := os.Stat(host); err != nil {
		return nil // mounted nowhere, or elsewhere
	}
	const place = stagedGroups + "/cpuset"
	if err := mkdirMode(place, 0o755); err != nil {
		return err
	}
	if err := bindReadOnly(host, place); err != nil {
		return err
	}
	return mount("tmpfs", place, "tmpfs", unix.MS_RDONLY|hiddenFlags, "size=4k,mode=0555")
}

func bindReadOnly(source, target string) error {
	if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|hiddenFlags, "")
}

// moveGroups puts the groups into the engine's own /sys.
func moveGroups() error {
	if err := mount(stagedGroups, groupsDir, "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(stagedGroups)
}
