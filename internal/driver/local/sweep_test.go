package local

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"muster/engine"
	"muster/internal/keeper/wire"
)

// Servers that start sweep at the same moment at which others open sessions: nobody's folder is taken away.
func TestSweepSparesWhatIsBeingOpened(t *testing.T) {
	d, err := New(Config{Dir: filepath.Join(t.TempDir(), "sessions"), Keeper: keeperPath, Rung: Plain})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	opened := make(chan struct{})
	var sweepers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-opened:
					return
				default:
				}
				if _, err := d.Sweep(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	defer sweepers.Wait()
	defer close(opened)
	for range 3000 {
		id := engine.NewID()
		dir := d.sessionDir(id)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		lock, err := newLock(dir)
		if err != nil {
			t.Fatalf("a new folder cannot be locked: %v", err)
		}
		held, _ := lock.Stat()
		there, err := os.Stat(filepath.Join(dir, wire.LockName))
		if err != nil || !os.SameFile(held, there) {
			t.Fatalf("the lock that is held is not the folder's: %v", err)
		}
		if _, err := newLock(dir); err == nil {
			t.Fatal("a folder was locked twice")
		}
		lock.Close() // a sweep may have the folder now
	}
}
