package keeper

import (
	"testing"
	"time"

	"muster/internal/keeper/wire"
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

// An engine whose end was reported just before its time is up has ended by itself, and the first reason counts otherwise.
func TestTimeLimitAfterTheEnd(t *testing.T) {
	for _, c := range []struct {
		what   string
		do     func(e *engine)
		reason string
	}{
		{"its end came first", func(e *engine) { e.over = true; e.stop(time.Second, reasonTimeLimit, "") }, "exit code"},
		{"a stop came first", func(e *engine) {
			e.stop(time.Second, "stopped", "somebody")
			e.stop(time.Second, reasonTimeLimit, "")
		}, "stopped"},
		{"the limit came first", func(e *engine) {
			e.stop(time.Second, reasonTimeLimit, "")
			e.stop(time.Second, "stopped", "somebody")
		}, "time limit"},
	} {
		e := &engine{lasts: time.Second}
		c.do(e)
		if x := judge(e.evidence(heard{started: true, exited: &wire.Exited{Code: 3}})); x.Reason != c.reason || x.TimeLimitNanos != 1e9 {
			t.Errorf("%s: reason %q, %q", c.what, x.Reason, x.Message)
		}
	}
}
