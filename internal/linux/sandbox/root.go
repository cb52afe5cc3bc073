package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// OwnRoot makes the mounts of the caller's mount namespace its own: nothing that is mounted in it shows elsewhere. It is the
// first thing that Enter does. In a chroot it moves the caller to another root, with the same content.
func OwnRoot() error {
	err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	return rootFromChroot()
}

// rootFromChroot is for callers in a chroot, whose / is a folder and no mount: a copy of what is mounted at and below / becomes
// the root of the mount namespace, and all that lies around the chroot goes from it. Covers over the chroot's folders
// alone would not do: root in an engine leaves a chroot the way this function does.
func rootFromChroot() error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("copy the mounts of the chroot: %w", err)
	}
	defer unix.Close(tree)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"go to the chroot's root", func() error { return unix.Chdir("/") }},
		{"change the root below the working folder", func() error { return unix.Chroot("/proc") }},
		{"go up out of the chroot", func() error { return unix.Chdir(strings.Repeat("../", 1000)) }},
		{"change the root to the namespace's", func() error { return unix.Chroot(".") }},
		{"private mounts", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount the copy", func() error { return unix.MoveMount(tree, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH) }},
		{"go to the copy", func() error { return unix.Fchdir(tree) }},
		{"make the copy the root", func() error { return unix.PivotRoot(".", ".") }},
		{"unmount what lay around", func() error { return unix.Unmount(".", unix.MNT_DETACH) }},
		{"go to the new root", func() error { return unix.Chdir("/") }},
		{"private mounts of the copy", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("in a chroot: %s: %w", step.name, err)
		}
	}
	return nil
}
