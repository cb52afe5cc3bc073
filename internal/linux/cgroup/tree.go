// Package cgroup limits and measures engines with Linux control groups: one small layer over version 1, version 2 and the
// hybrid of both, where each controller may be in another hierarchy.
//
//	<where this process is>/muster/<name>     one group for each engine, in every hierarchy that is needed
//
// The ideas:
//   - A Tree is what the machine offers, found once by Detect; what cannot be used comes with a reason for people.
//   - All engines' groups are siblings, so that their CPU weights compare.
//   - Processes are born in their group and never moved: moving one stalls for some 7 ms. Version 1: JoinThread on a
//     throwaway thread, which then forks. Version 2: FD for SysProcAttr.UseCgroupFD.
//   - A Group is only paths. They can be handed to another process, which opens the same group.
//
// It uses the standard library and golang.org/x/sys alone, for it is part of the small keeper binary too.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Controllers that this package knows. In version 2 cpuacct is a part of cpu.
const (
	CPU     = "cpu"
	CPUAcct = "cpuacct"
	CPUSet  = "cpuset"
	Memory  = "memory"
	Pids    = "pids"
	Devices = "devices"
)

// controllers in the order in which they are told.
var controllers = []string{CPU, CPUAcct, Memory, Pids, CPUSet, Devices}

// Modes of a machine.
const (
	V1     = "v1"
	V2     = "v2"
	Hybrid = "hybrid" // version 1, and a version 2 hierarchy beside it
	None   = "none"   // no control groups are mounted
)

const (
	folder     = "muster"        // the parent of all groups
	serverLeaf = "muster-server" // where Prepare moves the calling process
)

// Support tells whether one controller can be used.
type Support struct {
	Controller string
	Usable     bool
	Version    int    // 1 or 2; 0 if the machine does not have it
	Dir        string // the group below which ours are made
	Reason     string // why it is not usable: a sentence for people
}

// Tree is what the machine offers to the calling process. It does not change; methods are safe for concurrent use.
type Tree struct {
	mode    string
	support map[string]Support
	v2      string           // the group of version 2 below which ours are made; "" if there is none
	v2Self  bool             // the calling process is in it, or in the server's leaf below it
	made    func(dir string) // tests put files into plain directories here
}

// Detect finds out what can be used. root is where control groups are mounted ("" means /sys/fs/cgroup), proc is the
// calling process's folder in /proc ("" means /proc/self). It tries to make a group in each hierarchy, and removes it. A
// machine on which nothing can be used is no error: see Supports.
func Detect(root, proc string) (*Tree, error) {
	if root == "" {
		root = "/sys/fs/cgroup"
	}
	if proc == "" {
		proc = "/proc/self"
	}
	text, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("find out where control groups are mounted: %w", err)
	}
	mounts := parseMounts(string(text), root)
	text, err = os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return nil, fmt.Errorf("find out the own control groups: %w", err)
	}
	own := parseOwn(string(text))
	t := &Tree{mode: modeOf(mounts), support: map[string]Support{}}
	v2, v2Has, v2Reason := t.findV2(mounts, own)
	for _, c := range controllers {
		t.support[c] = findV1(c, mounts, own)
		if t.support[c].Version == 0 {
			t.support[c] = findInV2(c, v2, v2Has, v2Reason)
		}
	}
	if v2Reason == "" {
		t.v2 = v2
	}
	return t, nil
}

// Mode is V1, V2, Hybrid or None.
func (t *Tree) Mode() string { return t.mode }

// Supports tells about every controller, in a fixed order.
func (t *Tree) Supports() []Support {
	var all []Support
	for _, c := range controllers {
		all = append(all, t.support[c])
	}
	return all
}

// Has reports whether a controller can be used.
func (t *Tree) Has(controller string) bool { return t.support[controller].Usable }

func modeOf(mounts []mount) string {
	one := slices.ContainsFunc(mounts, func(m mount) bool { return m.version == 1 })
	two := slices.ContainsFunc(mounts, func(m mount) bool { return m.version == 2 })
	switch {
	case one && two:
		return Hybrid
	case one:
		return V1
	case two:
		return V2
	}
	return None
}

// findV1 looks for a controller in the hierarchies of version 1. Version 0 says that it is not there.
func findV1(controller string, mounts []mount, own map[string]string) Support {
	s := Support{Controller: controller}
	for _, m := range mounts {
		if m.version != 1 || !slices.Contains(m.controllers, controller) {
			continue
		}
		s.Version = 1
		dir, err := m.below(own[controller])
		if err != nil {
			s.Reason = err.Error()
			continue
		}
		s.Dir = dir
		if err := try(dir); err != nil {
			s.Reason = err.Error()
			continue
		}
		s.Usable, s.Reason = true, ""
		return s
	}
	return s
}

// try makes a group and removes it.
func try(dir string) error {
	trial := filepath.Join(dir, fmt.Sprintf("muster-trial-%d", os.Getpid()))
	err := unix.Mkdir(trial, 0o755)
	if err == nil || errors.Is(err, unix.EEXIST) {
		err = unix.Rmdir(trial)
	}
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return fmt.Errorf("no right to make control groups in %s", dir)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s is mounted read-only, as it is in most containers", dir)
	case err != nil:
		return fmt.Errorf("no control group can be made in %s: %w", dir, err)
	}
	return nil
}

// List returns the names of the groups that exist, for sweeping what a lost process left behind.
func (t *Tree) List() ([]string, error) {
	found := map[string]bool{}
	var errs []error
	for _, dir := range t.parents() {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if e.IsDir() {
				found[e.Name()] = true
			}
		}
	}
	var names []string
	for n := range found {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, errors.Join(errs...)
}

// parents returns the folders in which the muster folder may be.
func (t *Tree) parents() []string {
	var dirs []string
	for _, s := range t.support {
		if s.Usable && s.Version == 1 && !slices.Contains(dirs, s.Dir) {
			dirs = append(dirs, s.Dir)
		}
	}
	if t.v2 != "" {
		dirs = append(dirs, t.v2)
	}
	slices.Sort(dirs)
	return dirs
}

// checkName refuses what is no plain folder name, or could be a file of the kernel's.
func checkName(name string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\n\x00") || len(name) > 200 ||
		slices.Contains(controllers, strings.SplitN(name, ".", 2)[0]) || strings.HasPrefix(name, "cgroup.") {
		return fmt.Errorf("%q cannot be the name of a control group", name)
	}
	return nil
}
