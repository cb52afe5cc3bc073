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

// visible is what is mounted again on top of the covers that it lies below, and the links to it.
type visible []visiblePath

// visiblePath is a place that is held open, to be mounted where it lies, or a link that leads to one.
type visiblePath struct {
	path string
	file *os.File // nil: a link
	info os.FileInfo
	to   string // where the link leads
}

// openVisible opens the paths, by whatever symbolic links they lead below covered folders. Links are live, and engines can turn
// those that they may write: what a path leads to there must be one of the shared places, or lie in one. Paths that do not
// exist are skipped; a covered folder as a whole cannot stay visible.
func openVisible(paths, shared, covered []string) (_ visible, err error) {
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
		places, err := openOne(p, shared, covered)
		if err != nil {
			return nil, err
		}
		v = append(v, places...)
	}
	return v, nil
}

func openOne(path string, shared, covered []string) (visible, error) {
	place, err := openPath(path)
	if err != nil {
		return nil, err
	}
	v := visible{place}
	if err := mayShow(path, place.path, shared, covered); err != nil {
		v.close()
		return nil, err
	}
	if !below(place.path, covered) {
		v.close()
		v = nil // it stays where it is
	}
	for _, name := range names(path) {
		if below(name, covered) && name != place.path {
			v = append(v, visiblePath{path: name, info: place.info, to: place.path})
		}
	}
	return v, nil
}

// mayShow is nil if the place is shared, or in no covered folder. A folder that is covered inside of a shared one is not shared.
func mayShow(path, place string, shared, covered []string) error {
	for _, name := range append(names(path), place) {
		if slices.Contains(covered, name) {
			return fmt.Errorf("%s itself cannot be shared, every engine has its own: use a folder in it", name)
		}
	}
	around := ""
	for _, c := range covered {
		if len(c) > len(around) && below(place, []string{c}) {
			around = c
		}
	}
	if around == "" {
		return nil
	}
	for _, s := range shared {
		if below(s, []string{around}) && (place == s || below(place, []string{s})) {
			return nil
		}
	}
	if place == path {
		return fmt.Errorf("%s is not shared with the engines of this session: it is neither its project nor what was there to run it "+
			"when it began; start a new session", path)
	}
	return fmt.Errorf("%s now leads to %s, which is not shared with the engines of this session: it led elsewhere when the session began; "+
		"undo that, or start a new session", path, place)
}

// openWritable opens folders, to be mounted on their own places as they are now when what lies around is read-only.
func openWritable(paths []string) (_ visible, err error) {
	var v visible
	for _, p := range paths {
		f, err := openPath(p)
		if err != nil {
			v.close()
			return nil, err
		}
		v = append(v, f)
	}
	return v, nil
}

// openPath opens what path leads to, and takes the place's name from the kernel: a link that is turned meanwhile changes
// neither.
func openPath(path string) (visiblePath, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return visiblePath{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	place, err := os.Readlink(fdPath(f))
	if err == nil {
		var info os.FileInfo
		if info, err = f.Stat(); err == nil {
			return visiblePath{path: place, file: f, info: info}, nil
		}
	}
	f.Close()
	return visiblePath{}, err
}

// fdPath is a name for what is open.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

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
	var covers []*os.File // a path does not tell them from what was mounted later, or was made for a mount below
	defer func() {
		for _, c := range covers {
			c.Close()
		}
	}()
	for _, d := range hidden {
		steps = append(steps, step{d, false, func() error {
			c, err := hide(d)
			if c != nil {
				covers = append(covers, c)
			}
			return err
		}})
	}
	for _, p := range keep {
		steps = append(steps, step{p.path, p.file == nil, p.show})
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
	for _, c := range covers {
		if err := unix.Mount("", fdPath(c), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|hiddenFlags, ""); err != nil {
			return fmt.Errorf("make the cover of %s read-only: %w", c.Name(), err)
		}
	}
	return nil
}

const hiddenFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// hide covers a folder by an empty one and returns that. A folder that is not there needs no cover: nil.
func hide(dir string) (*os.File, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, nil
	}
	if err := mount("tmpfs", dir, "tmpfs", hiddenFlags, "size=4k,mode=0555"); err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

func (p visiblePath) show() error {
	if there, err := os.Stat(p.path); err == nil && os.SameFile(there, p.info) {
		return nil // below another one that is there already
	}
	if p.file == nil { // not a mount: that would show what is hidden below it
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
	return mount(fdPath(p.file), p.path, "", unix.MS_BIND|unix.MS_REC, "")
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
		p.file.Close() // nil is none
	}
}
