package clients

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What an installation made is copied if it consists of files and folders, and of nothing that leads elsewhere.
func TestTake(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string // "" is success
		plant      func(library string) error
	}{
		{"files", "", func(string) error { return nil }},
		{"link out", "neither file nor folder", func(l string) error { return os.Symlink(outside, l+"/sub/link") }},
		{"link inside", "neither file nor folder", func(l string) error { return os.Symlink("file", l+"/link") }},
		{"link to a folder", "neither file nor folder", func(l string) error { return os.Symlink(filepath.Dir(outside), l+"/folder") }},
		{"FIFO", "neither file nor folder", func(l string) error { return syscall.Mkfifo(l+"/fifo", 0o600) }},
		{"too large", "more than 100 MB", func(l string) error {
			return errors.Join(os.WriteFile(l+"/large", nil, 0o600), os.Truncate(l+"/large", maxTakenBytes+1))
		}},
		{"all of it a link", "path escapes", func(l string) error {
			return errors.Join(os.RemoveAll(l), os.Symlink(filepath.Dir(outside), l))
		}},
		{"all of it a FIFO", "not a directory", func(l string) error {
			return errors.Join(os.RemoveAll(l), syscall.Mkfifo(l, 0o600))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, to := t.TempDir(), t.TempDir()
			library := filepath.Join(dir, "library")
			if err := errors.Join(os.MkdirAll(library+"/sub", 0o700), os.WriteFile(library+"/sub/file", []byte("text"), 0o600), c.plant(library)); err != nil {
				t.Fatal(err)
			}
			took := make(chan error, 1)
			go func() { took <- take(nil, dir, "library", to) }()
			var err error
			select {
			case err = <-took:
			case <-time.After(30 * time.Second):
				t.Fatal("it waits")
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			b, readErr := os.ReadFile(to + "/sub/file")
			if err != nil || readErr != nil || string(b) != "text" {
				t.Errorf("%v %v %q", err, readErr, b)
			}
			for name, mode := range map[string]os.FileMode{"": 0o755, "/sub": 0o755, "/sub/file": 0o644} {
				if info, err := os.Stat(to + name); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v %v", name, info.Mode(), err)
				}
			}
		})
	}
}
