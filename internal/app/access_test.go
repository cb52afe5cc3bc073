package app

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/audit"
)

// A browser that logs in over and over is one line a minute: nobody is to push what others did out of the record by that.
func TestLoginsAreRecordedOnce(t *testing.T) {
	record, err := audit.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close()
	a := &access{record: record, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	now := time.Unix(1000, 0)
	alice := engine.Identity{User: engine.User{Name: "alice", UID: 20001}}
	for range 50 {
		for _, who := range []engine.Identity{alice, {User: alice.User, Token: "t1"}, {Owner: true}} {
			a.loggedIn(who, "127.0.0.1", now)
		}
		a.loggedIn(alice, "10.0.0.1", now)
		now = now.Add(2 * time.Second)
	}
	lines := map[string]int{}
	record.Each(time.Time{}, func(e audit.Entry) error { lines[e.User+" "+e.Token+" "+e.From]++; return nil })
	if len(lines) != 4 || lines["alice  127.0.0.1"] != 2 || lines["alice t1 127.0.0.1"] != 2 || lines["owner  127.0.0.1"] != 2 || lines["alice  10.0.0.1"] != 2 {
		t.Errorf("%v", lines)
	}
}

// The record of a stop tells what was stopped, and not what somebody calls an id.
func TestStopEntry(t *testing.T) {
	e := stopEntry("s", api.Stopped{Results: []api.StopResult{
		{ID: strings.Repeat("x", 1<<20), Status: 404}, {ID: "a", Status: 204}, {ID: "b", Status: 204},
	}})
	if strings.Join(e.Engines, " ") != "a b" || e.About != "2 stopped" || e.Session != "s" {
		t.Errorf("%.200v", e)
	}
}
