package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// fullFor fills the disk of the state folder by another process, which frees it again.
func (w *world) fullFor(d time.Duration) error {
	fill := exec.Command("sh", "-c", `trap 'rm -f "$0"' EXIT; cat /dev/zero > "$0"; sleep "$1"`, filepath.Join(w.state, "filling"),
		fmt.Sprintf("%.3f", d.Seconds()))
	w.mu.Lock()
	w.full = append(w.full, window{from: time.Now()})
	n := len(w.full) - 1
	w.mu.Unlock()
	err := fill.Run()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full[n].to = time.Now()
	return err
}

// window is a time in which the disk was full, or was being filled; it goes on while to is zero.
type window struct{ from, to time.Time }

// wasFull reports whether the disk was full at a time, or so shortly before that what was held up then was still on its way.
func (w *world) wasFull(at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.full {
		if at.After(f.from) && (f.to.IsZero() || at.Before(f.to.Add(2*time.Second))) {
			return true
		}
	}
	return false
}
