package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"muster/engine"
)

// Our packages have some 50 files with 200 kB in all.
const (
	maxTakenFiles = 10_000
	maxTakenBytes = 100 << 20
)

// take copies the folder name of dir, which others made and may still hold open, into the empty folder to: what is in to
// afterwards is nobody else's, consists of files and folders only, and can be read by everyone.
func take(on *engine.Behalf, dir, name, to string) error {
	var root *os.Root
	err := on.Try(func() (err error) {
		root, err = os.OpenRoot(dir) // a link that leads out of dir is an error
		return err
	})
	if err != nil {
		return err
	}
	defer root.Close()
	files, bytes := 0, int64(maxTakenBytes)
	return fs.WalkDir(folders{root, on}, name, func(at string, d fs.DirEntry, err error) error {
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
		n, err := takeFile(folders{root, on}, at, d.Type(), target, bytes)
		bytes -= n
		return err
	})
}

// folders are those of a root, opened without waiting: any may have become a FIFO.
type folders struct {
	root *os.Root
	on   *engine.Behalf // with whose rights: a file of somebody else's may have been linked there
}

func (f folders) Open(name string) (fs.File, error) {
	return f.open(name, syscall.O_DIRECTORY)
}

func (f folders) open(name string, flags int) (file *os.File, err error) {
	err = f.on.Try(func() (err error) {
		file, err = f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
		return err
	})
	return file, err
}

// takeFile copies one file of at most limit bytes.
func takeFile(from folders, name string, kind fs.FileMode, target string, limit int64) (int64, error) {
	if !kind.IsRegular() {
		return 0, fmt.Errorf("%s is neither file nor folder (%s)", name, kind)
	}
	source, err := from.open(name, 0) // it may have become a FIFO
	if err != nil {
		return 0, err
	}
	defer source.Close()
	if info, err := source.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s changes while it is read (%v)", name, err)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.LimitReader(source, limit+1))
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

// give makes a folder and what is in it the user's, who is to write there: from the leaves on, for what is the user's already
// may become something else at any time.
func give(on *engine.Behalf, dir string) error {
	if on == nil {
		return nil
	}
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	for _, path := range slices.Backward(all) {
		err = errors.Join(err, os.Lchown(path, on.Account.UID, on.Account.GID))
	}
	return err
}

// runAs runs probes in the user's name, who has another home than the server.
func runAs(on *engine.Behalf, run engine.RunProbe) engine.RunProbe {
	if on == nil {
		return run
	}
	return func(ctx context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
		p.As = on.Runs()
		p.Env = slices.DeleteFunc(slices.Clone(p.Env), func(kv string) bool {
			k, _, _ := strings.Cut(kv, "=")
			return k == "HOME" || k == "USER" || k == "LOGNAME"
		})
		p.Env = append(p.Env, "HOME="+p.As.Home, "USER="+p.As.Name, "LOGNAME="+p.As.Name)
		return run(ctx, p)
	}
}
