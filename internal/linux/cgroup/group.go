package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Paths are where a group is: all that another process needs to open it. The zero value is a group in no hierarchy.
type Paths struct {
	V1 map[string]string `json:"v1,omitempty"` // controller to folder
	V2 string            `json:"v2,omitempty"`
}

// Group is the control group of one engine. Methods are safe for concurrent use.
type Group struct {
	paths Paths
}

// New makes a group in every hierarchy that has a usable controller for it: cpu, cpuacct, memory and pids. cpuset of
// version 1 only where it is asked for, as extra: its groups need settings before a process may enter. Without any usable
// controller the group is empty, and its methods do nothing. All or nothing.
func (t *Tree) New(name string, extra ...string) (*Group, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	g := &Group{paths: t.where(name, extra)}
	var made []string
	for _, dir := range g.dirs() {
		if err := t.make(dir); err != nil {
			for _, d := range made {
				unix.Rmdir(d)
				unix.Rmdir(filepath.Dir(d))
			}
			return nil, err
		}
		made = append(made, dir)
	}
	return g, nil
}

// Open returns the group of that name in every hierarchy, whether it exists or not: for removing what was left behind.
func (t *Tree) Open(name string) (*Group, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return &Group{paths: t.where(name, []string{CPUSet})}, nil
}

// Open opens a group that this or another process made.
func Open(p Paths) *Group { return &Group{paths: p} }

// Noted opens a group that another process made and noted in a file; nil if these are not the paths of a group of that name, which
// Tree.New could have made.
func Noted(p Paths, name string) *Group {
	g := &Group{paths: p}
	for _, dir := range g.dirs() {
		if checkName(name) != nil || filepath.Base(dir) != name || filepath.Base(filepath.Dir(dir)) != folder || !strings.HasPrefix(filepath.Clean(dir), "/sys/fs/cgroup/") {
			return nil
		}
	}
	return g
}

// Paths tells where the group is.
func (g *Group) Paths() Paths { return g.paths }

// where computes the paths of a group.
func (t *Tree) where(name string, extra []string) Paths {
	p := Paths{V1: map[string]string{}}
	for _, c := range append([]string{CPU, CPUAcct, Memory, Pids}, extra...) {
		if s := t.support[c]; s.Usable && s.Version == 1 {
			p.V1[c] = filepath.Join(s.Dir, folder, name)
		}
	}
	if len(t.v2Controllers()) > 0 {
		p.V2 = filepath.Join(t.v2, folder, name)
	}
	return p
}

// make makes one folder and, where it is missing, the parent that all groups share. Another process may remove the empty
// parent in between.
func (t *Tree) make(dir string) error {
	for range 10 {
		parent := filepath.Dir(dir)
		err := t.mkdir(parent)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make control group %s: %w", parent, err)
		}
		if err := t.prepareParent(parent, err == nil); gone(err) {
			continue
		} else if err != nil {
			unix.Rmdir(parent) // if it is empty
			return err
		}
		if err := boundAll(parent); err != nil && !gone(err) {
			return fmt.Errorf("bound the processes of all groups in %s: %w", parent, err)
		}
		err = t.mkdir(dir)
		if gone(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make control group %s: %w", dir, err)
		}
		// Between the two the parent may have been another: with the group in it, it stays, and is ready when this returns.
		err = t.prepareParent(parent, false)
		if err == nil {
			err = t.awaitControllers(dir)
		}
		if err != nil {
			unix.Rmdir(dir)
			return err
		}
		return inheritCPUSet(dir)
	}
	return fmt.Errorf("make control group %s: its parent vanishes again and again", dir)
}

// prepareParent makes the parent ready for groups. In version 2 that is looked at each time: an earlier process may have
// been satisfied with fewer controllers.
func (t *Tree) prepareParent(parent string, fresh bool) error {
	if t.v2 == "" || filepath.Dir(parent) != t.v2 {
		if fresh || emptyCPUSet(parent) { // empty: whoever made it a moment ago has not come so far yet
			return inheritCPUSet(parent)
		}
		return nil
	}
	if err := t.handOn(t.v2); err != nil {
		return err
	}
	return t.handOn(parent)
}

func emptyCPUSet(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cpuset.mems"))
	return err == nil && strings.TrimSpace(string(text)) == ""
}

// inheritCPUSet copies the parent's CPUs and memory nodes into a fresh group of version 1's cpuset: it starts without any.
func inheritCPUSet(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "cpuset.mem_exclusive")); err != nil {
		return nil // another hierarchy, or version 2, which inherits by itself
	}
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f))
		if err == nil {
			err = write(filepath.Join(dir, f), strings.TrimSpace(string(text)))
		}
		if err != nil {
			return fmt.Errorf("inherit %s: %w", f, err)
		}
	}
	return nil
}

func (t *Tree) mkdir(dir string) error {
	err := unix.Mkdir(dir, 0o755)
	if err == nil && t.made != nil {
		t.made(dir)
	}
	return err
}

// Hold tells others that the group is in use, although it may have no process, until the file is closed; nil for an
// empty group, and where a stranger has it alone: everybody may lock a folder that they can read, and must not keep an engine
// from starting by it. Others take it for held then, too.
func (g *Group) Hold() (*os.File, error) {
	f, err := g.lock(unix.LOCK_SH)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hold cgroup: %w", err)
	}
	return f, nil
}

// Held reports whether somebody does.
func (g *Group) Held() bool {
	f, err := g.lock(unix.LOCK_EX)
	if err != nil {
		return errors.Is(err, unix.EWOULDBLOCK)
	}
	if f != nil {
		f.Close()
	}
	return false
}

func (g *Group) lock(how int) (*os.File, error) {
	dirs := g.dirs()
	if len(dirs) == 0 {
		return nil, nil
	}
	f, err := os.Open(dirs[0])
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// dirs are the group's folders, each once: controllers of version 1 may share a hierarchy.
func (g *Group) dirs() []string {
	var dirs []string
	for _, d := range g.paths.V1 {
		if !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	slices.Sort(dirs)
	if g.paths.V2 != "" {
		dirs = append(dirs, g.paths.V2)
	}
	return dirs
}

// JoinThread puts the calling thread into the group's hierarchies of version 1, so that children which it forks are born
// there. The caller is locked to a throwaway thread, which it never unlocks (netns.Do gives such a thread). On the main
// thread it is an error: Go cannot end that one, and it would stay in the group for ever.
func (g *Group) JoinThread() error {
	if unix.Gettid() == unix.Getpid() {
		return errors.New("enter the control group: not on the main thread")
	}
	for _, d := range g.dirs() {
		if d == g.paths.V2 {
			continue
		}
		// 0 is the calling thread. Under its number it would be somebody whom the kernel has to keep from forking and ending meanwhile: a
		// lock of the whole machine, which waits for a grace period of RCU, some 10 ms (cgroup_procs_write_start, Linux 5.5).
		if err := write(filepath.Join(d, "tasks"), "0"); err != nil {
			return fmt.Errorf("enter the control group: %w", err)
		}
	}
	return nil
}

// Doors opens the files by which a process enters the group, in each of its hierarchies, whoever it is and wherever it runs: it writes
// "0". The caller closes them. What one of its threads wrote counts for that thread, of version 1.
func (g *Group) Doors() (doors []*os.File, err error) {
	for _, d := range g.dirs() {
		name := "tasks"
		if d == g.paths.V2 {
			name = "cgroup.procs"
		}
		f, err := os.OpenFile(filepath.Join(d, name), os.O_WRONLY, 0)
		if err != nil {
			for _, f := range doors {
				f.Close()
			}
			return nil, fmt.Errorf("open the control group: %w", err)
		}
		doors = append(doors, f)
	}
	return doors, nil
}

// Count is how many Doors there are.
func (p Paths) Count() int { return len(Open(p).dirs()) }

// FD opens the group's folder of version 2, for SysProcAttr.UseCgroupFD; nil if it has none. The caller closes it.
func (g *Group) FD() (*os.File, error) {
	if g.paths.V2 == "" {
		return nil, nil
	}
	fd, err := unix.Open(g.paths.V2, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open control group %s: %w", g.paths.V2, err)
	}
	return os.NewFile(uintptr(fd), g.paths.V2), nil
}

// Processes returns the ids of the processes in the group and in groups that were made in it, in any hierarchy. For a moment
// after JoinThread the caller's is among them, until its throwaway thread has ended.
func (g *Group) Processes() ([]int, error) {
	var pids []int
	var errs []error
	for _, d := range g.all() {
		text, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil && !gone(err) {
			errs = append(errs, err)
		}
		for f := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), errors.Join(errs...)
}

// removeFor is how long Remove waits for the kernel to take dead processes and threads out of a group.
const removeFor = 2 * time.Second

// Remove removes the group with all groups that were made in it and, if it was the last one, the parent of all groups. Its
// processes must have ended; the kernel may need a moment more, which Remove gives it. What is not there any more is no error.
func (g *Group) Remove() error {
	var errs []error
	for _, d := range g.dirs() {
		if err := unix.Rmdir(d); err == nil || errors.Is(err, unix.ENOENT) {
			continue // as nearly always: nothing is in it
		}
		for _, inner := range groupsIn(d) {
			if err := rmdir(inner, time.Now().Add(removeFor)); err != nil {
				errs = append(errs, fmt.Errorf("remove control group %s: %w", inner, err))
			}
		}
	}
	for _, d := range g.dirs() {
		unix.Rmdir(filepath.Dir(d)) // EBUSY and ENOTEMPTY: others are there
	}
	return errors.Join(errs...)
}

// all are the group's folders and those of the groups in it, inner ones first.
func (g *Group) all() (all []string) {
	for _, d := range g.dirs() {
		all = append(all, groupsIn(d)...)
	}
	return all
}

// groupsIn are a group's folder and those of the groups in it, inner ones first.
func groupsIn(dir string) (all []string) {
	filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() { // an error: it is going away, or was never there
			all = append(all, path)
		}
		return nil
	})
	slices.Reverse(all) // a walk comes to a folder before what is in it
	return all
}

// Changed is when the group was made, or later; false if there is no such group.
func (g *Group) Changed() (last time.Time, there bool) {
	for _, d := range g.dirs() {
		if info, err := os.Stat(d); err == nil {
			there = true
			if t := info.ModTime(); t.After(last) {
				last = t
			}
		}
	}
	return last, there
}

func rmdir(dir string, until time.Time) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EBUSY) || time.Now().After(until):
			return err
		default:
			time.Sleep(wait) // the kernel tells nobody when the last thread is out of a group of version 1
		}
	}
}
