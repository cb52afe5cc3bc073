package turns

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// Who goes away while he waits, for his lane or for room, leaves nothing.
func TestWhoGoesAway(t *testing.T) {
	turns := New(2)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	var ends []func()
	for lane := range 2 {
		done, err := turns.Begin(context.Background(), fmt.Sprint(lane))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, done)
	}
	for _, lane := range []string{"0", "another"} {
		if _, err := turns.Begin(gone, lane); !errors.Is(err, context.Canceled) || len(turns.lanes) != 2 {
			t.Errorf("%s: %v, %d lanes", lane, err, len(turns.lanes))
		}
	}
	for _, done := range ends {
		done()
	}
	if len(turns.lanes) != 0 || len(turns.slots) != 0 {
		t.Errorf("left: %d lanes, %d in their turn", len(turns.lanes), len(turns.slots))
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	turns, no := New(1), errors.New("no")
	for i := range 2 * maxRefusals {
		turns.Refuse(fmt.Sprint(i), no)
	}
	if turns.Refused("0") != no || turns.Refused("never") != nil || len(turns.refusals) != maxRefusals {
		t.Errorf("%v, %v, %d refusals", turns.Refused("0"), turns.Refused("never"), len(turns.refusals))
	}
}
