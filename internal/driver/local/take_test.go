package local

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/keeper/wire"
)

// That a keeper cannot be asked, because no descriptor is free, does not say that it is gone: its session would be recorded as lost.
func TestKeepersThatCannotBeAskedAreNotGone(t *testing.T) {
	d := &Driver{config: Config{Dir: t.TempDir()}}
	id := engine.NewID()
	if _, _, err := d.take(t.Context(), id); engine.KindOf(err) != engine.NotFound {
		t.Errorf("without a folder: %v", err)
	}
	dir := d.sessionDir(id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, wire.ConfigName), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.take(t.Context(), id); engine.KindOf(err) != engine.NotFound {
		t.Errorf("without a socket: %v", err)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	_, _, err := d.take(t.Context(), id)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err == nil || engine.KindOf(err) == engine.NotFound {
		t.Errorf("without descriptors: %v", err)
	}
}
