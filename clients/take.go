package clients

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Our packages have some 50 files with 200 kB in all.
const (
	maxTakenFiles = 10_000
	maxTakenBytes = 100 << 20
)

// take copies the folder name of dir, which others made and may still hold open, into the empty folder to: what is in to
// afterwards is nobody else's, consists of files and folders only, and can be read by everyone.
func take(dir, name, to string) error {
	root, err := os.OpenRoot(dir) // a link that leads out of dir is an error
	if err != nil {
		return err
	}
	defer root.Close()
	files, bytes := 0, int64(maxTakenBytes)
	return fs.WalkDir(folders{root}, name, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if files++; files > maxTakenFiles {
			return fmt.Errorf("more than %d files", maxTakenFiles)
		}
		target := filepath.Join(to, strings.TrimPrefix(at, name))
		if d.IsDir() {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			return os.Chmod(target, 0o755) // whatever the umask
		}
		n, err := takeFile(root, at, d.Type(), target, bytes)
		bytes -= n
		return err
	})
}

// folders are those of a root, opened without waiting: any may have become a FIFO.
type folders struct{ root *os.Root }

func (f folders) Open(name string) (fs.File, error) {
	return f.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
}

// takeFile copies one file of at most limit bytes.
func takeFile(root *os.Root, name string, kind fs.FileMode, target string, limit int64) (int64, error) {
	if !kind.IsRegular() {
		return 0, fmt.Errorf("%s is neither file nor folder (%s)", name, kind)
	}
	from, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may have become a FIFO
	if err != nil {
		return 0, err
	}
	defer from.Close()
	if info, err := from.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s changes while it is read (%v)", name, err)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.LimitReader(from, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("more than %d MB", maxTakenBytes>>20)
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return n, err
}
