package local

import "testing"

func TestKilobytes(t *testing.T) {
	text := []byte("MemTotal:       24630932 kB\nMemFree:         123 kB\nMemAvailable:   22000000 kB\nHugePages_Total:       0\n")
	for name, want := range map[string]int64{"MemTotal:": 24630932, "MemAvailable:": 22000000, "HugePages_Total:": 0, "Swap:": 0} {
		if got := kilobytes(text, name); got != want {
			t.Errorf("%s %d, want %d", name, got, want)
		}
	}
}
