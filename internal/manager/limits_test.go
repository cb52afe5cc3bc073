package manager_test

import (
	"strconv"
	"strings"
	"testing"

	"muster/api"
	"muster/engine"
)

// A reply describes each id asked for, so that a request of megabytes would be answered with hundreds of them.
func TestTooManyIDs(t *testing.T) {
	b := newBench(t)
	id := b.session()
	many := make([]string, 10_001)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	_, await := b.Await(t.Context(), id, api.Await{IDs: many}, nil)
	_, stop := b.Stop(t.Context(), id, api.Stop{IDs: many}, "session")
	for what, err := range map[string]error{"await": await, "stop": stop} {
		if engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), "10001 ids are given: at most 10000") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if a := b.await(id, api.Await{IDs: many[1:]}); len(a.Failures) != 10_000 {
		t.Errorf("%d answers to 10,000 ids", len(a.Failures))
	}
}
