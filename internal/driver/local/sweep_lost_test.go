package local

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/netns"
)

// Cgroups of which no folder tells any more are removed, with what engines made in them; those of others that may be in use
// stay.
func TestSweepLostGroups(t *testing.T) {
	r := newRung(t, upper(t))
	d := r.driver(t)
	defer d.Close()
	group := func(session engine.ID) *cgroup.Group {
		g, err := d.tree.New(groupName(session, engine.NewID()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
		})
		return g
	}
	age := func(g *cgroup.Group) {
		old := time.Now().Add(-2 * makingTime)
		for _, dir := range g.Paths().V1 {
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
		if dir := g.Paths().V2; dir != "" {
			os.Chtimes(dir, old, old)
		}
	}
	lost, young, busy, held := group(engine.NewID()), group(engine.NewID()), group(engine.NewID()), engine.NewID()
	for _, dir := range lost.Paths().V1 {
		if err := os.MkdirAll(filepath.Join(dir, "made", "inside"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	enter(t, busy)
	if err := os.MkdirAll(d.sessionDir(held), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := newLock(d.sessionDir(held))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ofHeld := group(held)
	age(lost)
	age(busy)
	age(ofHeld)
	judged := group(engine.NewID()) // its processes have ended, and its keeper has not yet looked why
	keeper, err := judged.Hold()
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	age(judged)
	if _, err := d.Sweep(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		what string
		g    *cgroup.Group
		want bool
	}{{"lost", lost, false}, {"young", young, true}, {"with a process", busy, true}, {"of a session that lives", ofHeld, true}, {"of a keeper that looks", judged, true}} {
		if _, there := c.g.Changed(); there != c.want {
			t.Errorf("group %s: there %v, want %v", c.what, there, c.want)
		}
	}
}

// enter starts a process in the group, which ends with the test.
func enter(t *testing.T, g *cgroup.Group) {
	t.Helper()
	sleep := exec.Command("sleep", "1000")
	if leaf, err := g.FD(); err != nil {
		t.Fatal(err)
	} else if leaf != nil {
		defer leaf.Close()
		sleep.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(leaf.Fd())}
	}
	err := netns.OnThread(func() error {
		if err := g.JoinThread(); err != nil {
			return err
		}
		return sleep.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sleep.Process.Kill()
		sleep.Wait()
	})
}
