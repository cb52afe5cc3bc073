package engine

import (
	"errors"
	"fmt"
	"testing"
)

func TestNewIDIsValidAndFresh(t *testing.T) {
	seen := map[ID]bool{}
	for range 1000 {
		id := NewID()
		if !id.Valid() || seen[id] || len(id.Short()) != 8 {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	for _, bad := range []ID{"", "short", "ABCDEFGHIJKLMNOP", "1bcdefghijklmnop", "abcdefghijklmnop1", "abcdefghijklmno/", "abcdefghijklmn.."} {
		if bad.Valid() {
			t.Errorf("%q is taken for an id", bad)
		}
	}
}

// A status only moves to the right, and never out of an end.
func TestStatusMovesForwardOnly(t *testing.T) {
	line := []Status{Scheduling, Starting, Running, Stopping}
	ends := []Status{Stopped, Succeeded, Failed, TimedOut}
	for i, s := range line {
		for j, next := range line {
			if s.CanBecome(next) != (j > i) {
				t.Errorf("%s → %s: %v", s, next, s.CanBecome(next))
			}
		}
		for _, end := range ends {
			if !s.CanBecome(end) || end.CanBecome(s) || !end.Final() || s.Final() {
				t.Errorf("%s and %s", s, end)
			}
		}
	}
	for _, a := range ends {
		for _, b := range ends {
			if a.CanBecome(b) {
				t.Errorf("%s → %s", a, b)
			}
		}
	}
}

func TestEveryReasonHasAFinalStatus(t *testing.T) {
	for reason, want := range map[Reason]Status{
		ReasonSucceeded: Succeeded, ReasonExitCode: Failed, ReasonSignal: Failed, ReasonOutOfMemory: Failed,
		ReasonStopped: Stopped, ReasonSessionEnded: Stopped, ReasonLaunchFailed: Failed, ReasonKeeperLost: Failed, ReasonNodeLost: Failed,
		ReasonTimeLimit: TimedOut,
	} {
		if got := (Exit{Reason: reason}).Status(); got != want {
			t.Errorf("%s ends in %s, want %s", reason, got, want)
		}
	}
}

func TestErrorsCarryKindAndHint(t *testing.T) {
	inner := Errorf(NotFound, "no engine %q", "x").WithHint("muster ps")
	err := fmt.Errorf("stop: %w", inner)
	if KindOf(err) != NotFound || HintOf(err) != "muster ps" || err.Error() != `stop: no engine "x"` {
		t.Errorf("%v: kind %s, hint %q", err, KindOf(err), HintOf(err))
	}
	if KindOf(errors.New("other")) != Internal || HintOf(errors.New("other")) != "" {
		t.Error("an error of somebody else has a kind or hint")
	}
}
