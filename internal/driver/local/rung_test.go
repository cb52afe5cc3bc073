package local

import (
	"errors"
	"strings"
	"testing"

	"muster/internal/linux/cgroup"
)

// One line names every limit that is missing, that of processes too: nothing else holds a fork bomb.
func TestMissingLimitsAreTold(t *testing.T) {
	for _, rung := range []Rung{Root, Rootless} {
		d := &Driver{rung: rung, tree: &cgroup.Tree{}}
		d.declare(nil)
		if w := d.caps.Warnings; len(w) != 1 || !strings.HasPrefix(w[0], "engines are not limited in processes (") ||
			!strings.HasSuffix(w[0], ", memory, CPU: not usable here of cgroups: pids, memory, cpu (muster doctor says what to do)") {
			t.Errorf("%s: %q", rung, w)
		}
	}
	d := &Driver{rung: Rootless, tree: &cgroup.Tree{}}
	d.declare(errors.New("they are read-only"))
	if w := d.caps.Warnings; len(w) != 1 || !strings.HasSuffix(w[0], ", memory, CPU: they are read-only (muster doctor says what to do)") {
		t.Errorf("%q", w)
	}
}
