package manager_test

import (
	"testing"

	"muster/engine"
	"muster/internal/driver/fake"
	"muster/internal/manager"
	"muster/internal/store"
)

// allocationsOfALaunch is how often memory was allocated for one worker on 23 November 2026 (Go 1.26): from the launch until its end is
// told, recorded and another engine waits in its place, with the fake driver's part. A quarter more is a regression: a change
// that needs it says why, and sets the figure anew. allocationsOfAListing is that of one worker in a list.
const (
	allocationsOfALaunch  = 450 // 495 under the race detector
	allocationsOfAListing = 19
)

// recorded has the manager write records, as a server does.
func recorded(t testing.TB) option {
	return func(c *manager.Config, _ *fake.Options) {
		records, err := store.Open(makeDir(t, c.StateDir))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { records.Close() })
		c.Records = records
	}
}

// launchOne launches a worker and awaits its end.
func (b *bench) launchOne(id engine.ID) {
	b.awaitEnd(id, b.launch(id, worker(1, "exit 0"))[0].ID)
}

func TestAllocationsOfALaunch(t *testing.T) {
	b := newBench(t, ahead, recorded(t))
	id := b.session()
	b.waits(id, 2)
	checkAllocations(t, "a launch", allocationsOfALaunch, testing.AllocsPerRun(300, func() { b.launchOne(id) }))
}

func TestAllocationsOfAListing(t *testing.T) {
	b := newBench(t)
	id := b.session()
	ws := b.launch(id, worker(500, "exit 0"))
	b.awaitEnd(id, ids(ws)...)
	each := testing.AllocsPerRun(20, func() {
		if _, err := b.Workers(id, ""); err != nil {
			t.Error(err)
		}
	}) / float64(len(ws))
	checkAllocations(t, "one worker of a list", allocationsOfAListing, each)
}

func checkAllocations(t *testing.T, what string, figure, now float64) {
	t.Helper()
	t.Logf("%s: %.1f allocations, at most %.1f", what, now, figure*1.25)
	if now > figure*1.25 {
		t.Errorf("%s allocates memory %.1f times, at most %.1f are allowed: if that is needed, say why and set the figure anew", what, now, figure*1.25)
	}
}
