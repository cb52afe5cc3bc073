package local

import (
	"testing"
	"time"
)

func TestKilobytes(t *testing.T) {
	text := []byte("MemTotal:       24630932 kB\nMemFree:         123 kB\nMemAvailable:   22000000 kB\nHugePages_Total:       0\n")
	for name, want := range map[string]int64{"MemTotal:": 24630932, "MemAvailable:": 22000000, "HugePages_Total:": 0, "Swap:": 0} {
		if got := kilobytes(text, name); got != want {
			t.Errorf("%s %d, want %d", name, got, want)
		}
	}
}

// How many wait is what was launched, as far as the machine has room: for forked ones there is more.
func TestCrewSize(t *testing.T) {
	const gigabyte = 1 << 30
	for _, c := range []struct {
		want            int
		machine         int64
		addresses       int
		started, forked int
	}{
		{2, 24 * gigabyte, 1 << 16, 2, 2},
		{16, 24 * gigabyte, 1 << 16, 16, 16},
		{100, 24 * gigabyte, 1 << 16, 16, 100},
		{5000, 24 * gigabyte, 1 << 16, 16, 128},
		{5000, 1000 * gigabyte, 1 << 16, 16, 128},
		{100, 8 * gigabyte, 1 << 16, 16, 42},
		{100, 1 * gigabyte, 1 << 16, 16, 16},
		{100, 0, 1 << 16, 16, 16}, // nobody knows
		{100, 24 * gigabyte, 64, 8, 8},
		{100, 24 * gigabyte, 16, 2, 2},
		{2, 24 * gigabyte, 4, 1, 1},
	} {
		crew := crew{want: c.want}
		if got := crew.size(false, c.machine, c.addresses); got != c.started {
			t.Errorf("of %d that are started %d wait on a machine of %d bytes with %d addresses, want %d", c.want, got, c.machine, c.addresses, c.started)
		}
		if got := crew.size(true, c.machine, c.addresses); got != c.forked {
			t.Errorf("of %d that are forked %d wait on a machine of %d bytes with %d addresses, want %d", c.want, got, c.machine, c.addresses, c.forked)
		}
	}
}

// Others are started in the place of those that were taken when a launch is over: nothing has happened for a while, or enough time has gone.
func TestLaunchOver(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		name  string
		stirs stirs
		began time.Time
		want  time.Duration
	}{
		{"nothing was launched", stirs{}, now, 0},
		{"one, just now", stirs{taken: 1, last: now}, now, restFor + restEach},
		{"one, some time ago", stirs{taken: 1, last: ago(20 * time.Millisecond)}, ago(20 * time.Millisecond), restFor + restEach - 20*time.Millisecond},
		{"one, long ago", stirs{taken: 1, last: ago(time.Second)}, ago(time.Second), 0},
		{"a hundred, just now", stirs{taken: 100, last: now}, now, restFor + 100*restEach},
		{"a hundred, and they still end", stirs{taken: 100, last: now}, ago(time.Second), restFor},
		{"a hundred, and they end for ever", stirs{taken: 100, last: now}, ago(2 * time.Second), 0},
	} {
		if got := max(0, c.stirs.rest(c.began, now)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
