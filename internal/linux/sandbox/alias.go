package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Alias is a second path to a folder, directly below one that is there.
type Alias struct {
	Path   string // "": none
	Target string
}

// make shows the target at the path. If the host has no folder there, nothing is made on the host: the folder above is covered by
// one in memory that shows all that is in it, and the path besides. What the host puts there later is not seen.
func (a Alias) make(look func(func() error) error) error {
	if a.Path == "" {
		return nil
	}
	var folder visiblePath
	err := look(func() (err error) {
		folder, err = openPath(a.Target) // as it is now: the cover may hide it
		return err
	})
	if err != nil {
		return err
	}
	defer folder.file.Close()
	if at, err := os.Stat(a.Path); err == nil && os.SameFile(at, folder.info) {
		return nil
	}
	if info, err := os.Lstat(a.Path); err != nil || !info.IsDir() {
		if err := a.coverParent(); err != nil {
			return err
		}
	}
	folder.path = a.Path
	return folder.mount()
}

// coverParent covers the folder above by one that shows what is in it, but for the path's own name, which becomes a folder.
func (a Alias) coverParent() error {
	parent := resolved(filepath.Dir(a.Path))
	if parent == "" {
		return fmt.Errorf("%s does not exist", filepath.Dir(a.Path))
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	info, err := os.Stat(parent)
	if err != nil {
		return err
	}
	own := filepath.Base(a.Path)
	var keep visible
	defer func() { keep.close() }()
	links := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		switch {
		case e.Name() == own:
		case e.Type() == fs.ModeSymlink:
			if links[path], err = os.Readlink(path); err != nil {
				return err
			}
		case e.IsDir() || e.Type().IsRegular():
			p, err := openPath(path)
			if err != nil {
				return err
			}
			keep = append(keep, p)
		}
	}
	if err := mount("tmpfs", parent, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=1m,mode=%04o", info.Mode().Perm())); err != nil {
		return err
	}
	for _, p := range keep {
		if err := p.makeTarget(); err != nil {
			return err
		}
		if err := p.mount(); err != nil {
			return err
		}
	}
	for path, target := range links {
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(parent, own), 0o755)
}
