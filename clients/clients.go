// Package clients carries the Python and R packages that engines import (cdsw, cml, muster), and puts them where engines
// find them: Python as plain files, R as a library that the machine's own R has installed them into, once for each version
// of R. Both end up in a folder named after their content, so that another release never meets an old one, and appear there
// by a rename, so that nobody sees half of one and two processes may do it at once. Package app imports it; it looks only
// at packages engine and turns.
package clients

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Named file by file: a folder's name would leave out __init__.py and _runner.py, and take in what tests leave behind.
//
//go:embed python/cdsw/*.py python/cdsw/py.typed python/cml/*.py python/cml/py.typed python/muster/*.py python/muster/py.typed python/_muster/*.py python/_muster/py.typed
//go:embed r/muster.Rprofile r/cdsw/DESCRIPTION r/cdsw/NAMESPACE r/cdsw/R/*.R r/cml/DESCRIPTION r/cml/NAMESPACE r/cml/R/*.R
var files embed.FS

// PythonDir makes sure that the Python packages lie in a folder under cacheDir and returns it: the entry for PYTHONPATH. The
// runner is _muster/_runner.py in it. Safe to call at any time, from several processes at once.
func PythonDir(cacheDir string) (string, error) {
	tree, err := fs.Sub(files, "python")
	if err != nil {
		return "", err
	}
	hash, err := contentHash(tree)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cacheDir, "python-"+hash)
	if complete(tree, dir) {
		return dir, nil
	}
	tmp, err := tempDir(cacheDir)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := extract(tree, tmp); err != nil {
		return "", fmt.Errorf("unpack the Python packages: %w", err)
	}
	err = appear(tmp, dir, func() bool { return complete(tree, dir) })
	return dir, err
}

// contentHash names the content of a tree.
func contentHash(tree fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(tree, name)
		fmt.Fprintf(h, "%s %d\n", name, len(b))
		h.Write(b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:12], err
}

// complete reports whether dir holds all files of the tree as they are: somebody may have cleaned up, or worse, in the cache.
func complete(tree fs.FS, dir string) bool {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil && !bytes.Equal(got, want) {
			err = fs.ErrNotExist
		}
		return err
	}) == nil
}

// extract writes the tree into dir, readable for everyone.
func extract(tree fs.FS, dir string) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path.Clean(name)))
		if d.IsDir() {
			if err := os.MkdirAll(to, 0o755); err != nil {
				return err
			}
			return os.Chmod(to, 0o755) // whatever the umask
		}
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			return err
		}
		return os.Chmod(to, 0o644)
	})
}

const (
	tempPrefix = ".new-"
	// A temporary folder of this age was left by a process that was killed.
	tempAge = 6 * time.Hour
)

// tempDir makes a folder in cacheDir to prepare things in, and removes what killed processes left there.
func tempDir(cacheDir string) (string, error) {
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(cacheDir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), tempPrefix) && time.Since(info.ModTime()) > tempAge {
			os.RemoveAll(filepath.Join(cacheDir, e.Name()))
		}
	}
	return os.MkdirTemp(cacheDir, tempPrefix)
}

// appear gives tmp its final name. If another process was faster its folder is taken; if what is there is damaged it is
// replaced. whole tells the one from the other.
func appear(tmp, dir string, whole func() bool) error {
	for range 3 {
		err := os.Rename(tmp, dir)
		if err == nil || whole() {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		damaged := tmp + "-damaged"
		if err := os.Rename(dir, damaged); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		os.RemoveAll(damaged)
	}
	return fmt.Errorf("%s is replaced by others again and again", dir)
}
