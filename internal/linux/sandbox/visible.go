package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// coveredDirs are the host's folders that get a private one on top.
var coveredDirs = []string{"/tmp", "/run", "/dev", "/dev/shm"}

// visible holds paths below covered folders open, so that they can be mounted again on top of the cover.
type visible []visiblePath

type visiblePath struct {
	path string
	file *os.File
	info os.FileInfo
	to   string // where path leads, if it does so by links
}

// openVisible opens those of the paths that lie below a covered folder, by whatever symbolic links they are reached. Paths
// that do not exist are skipped; a covered folder as a whole cannot stay visible.
func openVisible(paths, covered []string) (_ visible, err error) {
	var v visible
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		all := names(p)
		for i, name := range all {
			if slices.Contains(covered, name) {
				return nil, fmt.Errorf("%s itself cannot be shared, every engine has its own: use a folder in it", name)
			}
			if !below(name, covered) {
				continue
			}
			f, err := openPath(name)
			if err != nil {
				return nil, err
			}
			if i < len(all)-1 {
				f.to = all[len(all)-1]
			}
			v = append(v, f)
		}
	}
	return v, nil
}

// openWritable opens folders, to be mounted on their own places as they are now when what lies around is read-only.
func openWritable(paths []string) (_ visible, err error) {
	var v visible
	for _, p := range paths {
		all := names(p)
		f, err := openPath(all[len(all)-1])
		if err != nil {
			v.close()
			return nil, err
		}
		v = append(v, f)
	}
	return v, nil
}

func openPath(path string) (visiblePath, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return visiblePath{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return visiblePath{}, err
	}
	return visiblePath{path: path, file: f, info: info}, nil
}

// names lists under which names a path is reached: as it is given, and after each symbolic link on the way.
func names(path string) []string {
	list := []string{filepath.Clean(path)}
	for range 40 { // as many links as the kernel follows
		next, ok := followOne(list[len(list)-1])
		if !ok {
			break
		}
		list = append(list, next)
	}
	return list
}

// followOne follows the first symbolic link in a clean, absolute path.
func followOne(path string) (string, bool) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		target, err := os.Readlink(path[:i])
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path[:i]), target)
		}
		return filepath.Join(target, path[i:]), true
	}
	return "", false
}

func below(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(path, d+"/") })
}

func resolvedAll(paths []string) []string {
	var out []string
	for _, p := range paths {
		if r := resolved(p); r != "" { // one that does not exist needs no cover
			out = append(out, r)
		}
	}
	return out
}

// hideAndKeep covers the hidden folders and mounts the visible paths, from the root to the leaves: of a hidden folder in a
// visible one, or the other way round, the inner one counts. Links come last, when what they lead to is there. The covers are
// writable until the last one is made, for the mount points in them.
func hideAndKeep(hidden []string, keep visible) error {
	type step struct {
		path string
		link bool
		do   func() error
	}
	var steps []step
	for _, d := range hidden {
		steps = append(steps, step{d, false, func() error { return hide(d) }})
	}
	for _, p := range keep {
		steps = append(steps, step{p.path, p.to != "", p.show})
	}
	slices.SortStableFunc(steps, func(a, b step) int {
		if a.link != b.link {
			if a.link {
				return 1
			}
			return -1
		}
		return len(a.path) - len(b.path)
	})
	for _, s := range steps {
		if err := s.do(); err != nil {
			return err
		}
	}
	for _, d := range hidden {
		if _, err := os.Stat(d); err != nil {
			continue // below a cover, and so never there
		}
		if err := mount("", d, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|hiddenFlags, ""); err != nil {
			return err
		}
	}
	return nil
}

const hiddenFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// hide covers a folder by an empty one. A folder that is not there needs no cover.
func hide(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	return mount("tmpfs", dir, "tmpfs", hiddenFlags, "size=4k,mode=0555")
}

func (p visiblePath) show() error {
	if there, err := os.Stat(p.path); err == nil && os.SameFile(there, p.info) {
		return nil // below another one that is there already
	}
	if p.to != "" { // not a mount: that would show what is hidden below it
		if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
			return err
		}
		return os.Symlink(p.to, p.path)
	}
	if err := p.makeTarget(); err != nil {
		return err
	}
	return p.mount()
}

func (p visiblePath) mount() error {
	return mount(fmt.Sprintf("/proc/self/fd/%d", p.file.Fd()), p.path, "", unix.MS_BIND|unix.MS_REC, "")
}

// mount mounts the paths on top of whatever is there.
func (v visible) mount() error {
	for _, p := range v {
		if err := p.mount(); err != nil {
			return err
		}
	}
	return nil
}

func (p visiblePath) makeTarget() error {
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	if p.info.IsDir() {
		return os.MkdirAll(p.path, 0o755)
	}
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func (v visible) close() {
	for _, p := range v {
		p.file.Close()
	}
}
