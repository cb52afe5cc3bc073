package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// coveredDirs are the host's folders that get a private one on top.
var coveredDirs = []string{"/tmp", "/run"}

// visible holds paths below covered folders open, so that they can be mounted again on top of the cover.
type visible []visiblePath

type visiblePath struct {
	path string
	file *os.File
	dir  bool
}

// openVisible opens those of the paths that lie below a covered folder, symbolic links followed. Paths that do not exist
// are skipped; a covered folder as a whole cannot stay visible.
func openVisible(paths, covered []string) (visible, error) {
	var v visible
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			continue
		}
		for _, candidate := range uncovered(filepath.Clean(p), real, covered) {
			fd, err := unix.Open(candidate, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				v.close()
				return nil, &os.PathError{Op: "open", Path: candidate, Err: err}
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				unix.Close(fd)
				v.close()
				return nil, fmt.Errorf("stat %s: %w", candidate, err)
			}
			v = append(v, visiblePath{candidate, os.NewFile(uintptr(fd), candidate), st.Mode&unix.S_IFMT == unix.S_IFDIR})
		}
	}
	return v, nil
}

// uncovered lists which of the two names of a path, as given and with its links followed, lie below a covered folder.
func uncovered(name, real string, covered []string) []string {
	var out []string
	for _, dir := range covered {
		if strings.HasPrefix(real, dir+"/") {
			out = append(out, real)
		}
		if name != real && strings.HasPrefix(name, dir+"/") {
			out = append(out, name)
		}
	}
	return out
}

func (v visible) mount() error {
	for _, p := range v {
		if _, err := os.Stat(p.path); err == nil {
			continue // below another one that is there already
		}
		if err := p.makeTarget(); err != nil {
			return err
		}
		if err := mount(fmt.Sprintf("/proc/self/fd/%d", p.file.Fd()), p.path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	return nil
}

func (p visiblePath) makeTarget() error {
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	if p.dir {
		return os.MkdirAll(p.path, 0o755)
	}
	return os.WriteFile(p.path, nil, 0o644)
}

func (v visible) close() {
	for _, p := range v {
		p.file.Close()
	}
}
