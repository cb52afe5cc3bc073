package app

import (
	"strings"
	"testing"

	"muster/api"
)

// The record of a stop tells what was stopped, and not what somebody calls an id.
func TestStopEntry(t *testing.T) {
	e := stopEntry("s", api.Stopped{Results: []api.StopResult{
		{ID: strings.Repeat("x", 1<<20), Status: 404}, {ID: "a", Status: 204}, {ID: "b", Status: 204},
	}})
	if strings.Join(e.Engines, " ") != "a b" || e.About != "2 stopped" || e.Session != "s" {
		t.Errorf("%.200v", e)
	}
}
