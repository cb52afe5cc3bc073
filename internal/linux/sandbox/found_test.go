package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever makes a path lead elsewhere is seen, and nothing else is.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "path"), filepath.Join(dir, "other")
	seen := map[string]string{Place(path): "nothing there"}
	turn := func(how string, do func() error) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		now := Place(path)
		if before, known := seen[now]; known {
			t.Errorf("%s: as with %s: %q", how, before, now)
		}
		seen[now] = how
	}
	turn("a folder", func() error { return os.Mkdir(path, 0o700) })
	was := Place(path)
	if err := os.WriteFile(filepath.Join(path, "file"), nil, 0o600); err != nil || Place(path) != was {
		t.Errorf("a file in it: %v, %q, was %q", err, Place(path), was)
	}
	turn("a link to it", func() error {
		if err := os.Rename(path, other); err != nil {
			return err
		}
		return os.Symlink(other, path)
	})
	turn("another folder", func() error {
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.Mkdir(path, 0o700)
	})
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	seen := map[string]bool{File(path): true}
	for _, content := range []string{"one", "two", "three"} {
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		if now := File(path); seen[now] || now != File(path) {
			t.Errorf("%s: %q", content, now)
		} else {
			seen[now] = true
		}
	}
}

func TestMountsChanged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test mounts")
	}
	dir := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // its mounts are its own, and end with it
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			t.Error(err)
			return
		}
		m, err := MountsOf(unix.Gettid())
		if err != nil {
			t.Error(err)
			return
		}
		defer m.Close()
		before := m.Changed()
		err = unix.Mount("none", dir, "tmpfs", 0, "")
		mounted, again := m.Changed(), m.Changed()
		err = errors.Join(err, unix.Unmount(dir, 0))
		if unmounted := m.Changed(); err != nil || before || !mounted || again || !unmounted {
			t.Errorf("changed before: %v, with a mount: %v, after that: %v, with its end: %v, %v", before, mounted, again, unmounted, err)
		}
	}()
	<-done
}
