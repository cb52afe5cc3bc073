package cgroup

import "testing"

// What a file says is a group of that name, or nothing is opened: whoever opens it kills what is in it, and removes it.
func TestNoted(t *testing.T) {
	for _, c := range []struct {
		p    Paths
		want bool
	}{
		{Paths{V1: map[string]string{Memory: "/sys/fs/cgroup/memory/some/where/muster/s-e"}, V2: "/sys/fs/cgroup/user.slice/muster/s-e"}, true},
		{Paths{}, true}, // in no hierarchy
		{Paths{V2: "/sys/fs/cgroup/muster/s-other"}, false},
		{Paths{V2: "/sys/fs/cgroup/system.slice/s-e"}, false},
		{Paths{V2: "/home/muster/s-e"}, false},
		{Paths{V2: "/sys/fs/cgroup/../../../home/muster/s-e"}, false},
		{Paths{V1: map[string]string{Memory: "/sys/fs/cgroup/memory/muster/s-e", Pids: "/sys/fs/cgroup/pids"}}, false},
	} {
		if got := Noted(c.p, "s-e"); (got != nil) != c.want {
			t.Errorf("%+v: %v", c.p, got)
		}
	}
	if Noted(Paths{V2: "/sys/fs/cgroup/muster/.."}, "..") != nil {
		t.Error("a name that is none")
	}
}
