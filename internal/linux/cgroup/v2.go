package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// In version 2 a group either holds processes or hands controllers on to groups below it (the root may do both). So ours
// are made below the nearest group, from the own one upwards, in which we may make groups and in which no process is but
// the calling one, which Prepare can move to a leaf. A systemd service with Delegate=yes has such a group for its own; a
// root shell's is found further up, in a slice.
//
// So is that of a service or scope which systemd did not delegate, although the group would serve: systemd could not start a
// server again whose engines have outlived it. Into a group that hands controllers on it puts no process (exit code 219).

// findV2 looks for that group. It returns its controllers, or a reason for people why there is none.
func (t *Tree) findV2(mounts []mount, own map[string]string) (dir string, has []string, reason string) {
	i := slices.IndexFunc(mounts, func(m mount) bool { return m.version == 2 })
	if i < 0 {
		return "", nil, "this machine has no such controller"
	}
	m := mounts[i]
	start, err := m.below(own[""])
	if err != nil {
		return "", nil, err.Error()
	}
	leaf := filepath.Base(start) == serverLeaf // Prepare was called before, by this process or by its parent, or systemd did it
	if leaf {
		start = filepath.Dir(start)
	}
	second := "" // would do
	for dir = start; ; dir = filepath.Dir(dir) {
		err := usableV2(dir, dir == m.dir)
		switch {
		case err == nil && (leaf && dir == start || !undelegated(dir)):
			return t.foundV2(dir, start)
		case err == nil && second == "":
			second = dir
		case err != nil && reason == "": // the own group's reason is the one that helps
			reason = err.Error()
		}
		if dir != m.dir && len(dir) > len(m.dir) {
			continue
		}
		if second != "" {
			return t.foundV2(second, start)
		}
		return "", nil, reason
	}
}

func (t *Tree) foundV2(dir, start string) (_ string, has []string, reason string) {
	t.v2Self = dir == start
	text, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	return dir, strings.Fields(string(text)), ""
}

// undelegated reports whether a group is a unit of systemd's that it keeps for itself. It marks those that it has delegated:
// https://systemd.io/CGROUP_DELEGATION (the attribute that ordinary users can read came later). A user's own manager marks none
// (seen with systemd 252): there the group above is taken, which is the user's as well.
func undelegated(dir string) bool {
	if ext := filepath.Ext(dir); ext != ".service" && ext != ".scope" {
		return false
	}
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, make([]byte, 8)); err == nil && n > 0 {
			return false
		}
	}
	return true
}

// usableV2 tells why our groups cannot be made below dir.
func usableV2(dir string, root bool) error {
	if err := try(dir); err != nil {
		return fmt.Errorf("%w (a service needs Delegate=yes; from a shell: systemd-run --scope -p Delegate=yes …)", err)
	}
	file := filepath.Join(dir, "cgroup.subtree_control")
	if err := unix.Access(file, unix.W_OK); err != nil {
		return fmt.Errorf("no right to hand controllers on in %s: %w", file, err)
	}
	if root && isRoot(dir) {
		return nil
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for p := range strings.FieldsSeq(string(procs)) {
		if p != strconv.Itoa(os.Getpid()) {
			return fmt.Errorf("other processes are in %s, such as %s, so that it cannot hand controllers on", dir, p)
		}
	}
	return nil
}

// isRoot reports whether dir is the hierarchy's real root, which alone has no type; a container's root is not.
func isRoot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, os.ErrNotExist)
}

func findInV2(controller, dir string, has []string, reason string) Support {
	if reason != "" {
		return Support{Controller: controller, Reason: reason}
	}
	s := Support{Controller: controller, Version: 2, Dir: dir}
	name := controller
	if name == CPUAcct {
		name = CPU
	}
	switch {
	case slices.Contains(has, name):
		s.Usable = true
	case controller == Devices:
		s.Reason = "version 2 has no such controller"
	default:
		s.Reason = fmt.Sprintf("%s does not offer it (see cgroup.controllers there)", dir)
	}
	return s
}

// v2Controllers are the controllers that our groups get from version 2.
func (t *Tree) v2Controllers() []string {
	var names []string
	for _, c := range controllers {
		if s := t.support[c]; s.Usable && s.Version == 2 && c != CPUAcct {
			names = append(names, c)
		}
	}
	return names
}

// Prepare makes the own group of version 2 ready to have groups below it: it moves the calling process to a leaf
// and hands the controllers on. Call it once, before New and before other processes are started. Without version 2 there
// is nothing to do.
func (t *Tree) Prepare() error {
	if len(t.v2Controllers()) == 0 {
		return nil
	}
	if t.v2Self && !isRoot(t.v2) {
		leaf := filepath.Join(t.v2, serverLeaf)
		if err := t.mkdir(leaf); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make the server's own control group %s: %w", leaf, err)
		}
		if err := write(filepath.Join(leaf, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
			return fmt.Errorf("move to the server's own control group: %w", err)
		}
	}
	return t.handOn(t.v2)
}

// ownFiles are files that a group of version 2 has with the controller.
var ownFiles = map[string]string{CPU: "cpu.weight", Memory: "memory.max", Pids: "pids.max", CPUSet: "cpuset.cpus"}

// awaitControllers returns when a new group has what its parent hands on. A parent says that it does before the kernel has made it
// so, while somebody else has it do that (Linux, cgroup_subtree_control_write): saying it again takes the lock, and waits for him.
func (t *Tree) awaitControllers(dir string) error {
	parent := filepath.Dir(dir)
	if t.v2 == "" || filepath.Dir(parent) != t.v2 {
		return nil
	}
	names := t.v2Controllers()
	for _, c := range names {
		if file := ownFiles[c]; file == "" || unix.Access(filepath.Join(dir, file), unix.F_OK) == nil {
			continue
		}
		if err := write(filepath.Join(parent, "cgroup.subtree_control"), "+"+strings.Join(names, " +")); err != nil {
			return fmt.Errorf("hand controllers on: %w", err)
		}
		return nil
	}
	return nil
}

// handOn lets the groups below dir have our controllers, as far as they do not have them yet. All or none: cpu and pids alone
// may be handed on also where processes are, which would make the group a threaded one, and memory impossible from then on.
func (t *Tree) handOn(dir string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("hand controllers on: %w", err)
	}
	var missing []string
	for _, c := range t.v2Controllers() {
		if !slices.Contains(strings.Fields(string(text)), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err = write(file, strings.Join(missing, " "))
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("hand controllers on in %s: processes are in that group (was Prepare called?): %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("hand controllers on: %w", err)
	}
	return nil
}
