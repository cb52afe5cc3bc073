package sandbox

import "testing"

func TestMapped(t *testing.T) {
	for lines, want := range map[string]bool{
		"         0          0 4294967295\n": true,
		"      1000       1000          1\n": false,
		"0 1000 1\n1 100000 65536\n":         true,
		"0 1000 5\n":                         false,
		"5 1000 1\n":                         true,
		"":                                   false,
	} {
		if got := mapped(lines, ttyGroup); got != want {
			t.Errorf("%q: %v", lines, got)
		}
	}
}
