package keeper

import (
	"testing"
	"time"
)

// An engine that was killed at its memory limit is told as that, although somebody asks for its end before its init is
// reaped. Who asked before the kernel did counts.
func TestStopAfterTheLimit(t *testing.T) {
	for _, c := range []struct {
		what   string
		outOf  bool
		reason string
	}{{"stopped after the kill", true, "out of memory"}, {"stopped", false, "stopped"}} {
		e := &engine{limit: 200e6, outOf: c.outOf}
		e.stop(time.Second, "stopped", "somebody")
		if x := judge(e.evidence(heard{started: true})); x.Reason != c.reason {
			t.Errorf("%s: reason %q, %q", c.what, x.Reason, x.Message)
		}
	}
}
