package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A server in the background: the command returns when it answers, says where it is, and is content with one that runs; the
// server outlives the terminal and ends by itself.
func TestUpBackground(t *testing.T) {
	w := makeWorld(t)
	before := w.count()
	up := []string{"up", "--until-idle", "3s", "--background", "--json", "--rung", "plain"}
	first := w.muster(up...).ok(t)
	w.muster("ps").ok(t)
	second := w.muster(up...).ok(t)
	var place struct {
		Address   string
		TokenFile string `json:"token_file"`
	}
	if err := json.Unmarshal([]byte(first.out), &place); err != nil || first.out != second.out {
		t.Errorf("it says %q, then %q: %v", first.out, second.out, err)
	}
	run := filepath.Join(w.root, "run")
	if token, err := os.ReadFile(place.TokenFile); err != nil || len(token) < 20 || place.Address != "unix://"+run+"/server.sock" {
		t.Errorf("%+v, token %q, %v", place, token, err)
	}
	w.muster("up", "--background").has(t, "a server already runs")
	w.serverEnds()
	w.muster("up", "--until-idle", "1s", "--background", "--rung", "plain").ok(t).has(t, "muster: the server answers at "+place.Address, "end it with: kill ")
	w.serverEnds()

	failed := w.muster("up", "--background", "--json", "--network", "10.0.0.0/33")
	if failed.code != 2 || failed.out != "" || !strings.Contains(failed.err, "10.0.0.0/33") {
		t.Errorf("a server that cannot start: %+v", failed)
	}
	os.Remove(filepath.Join(run, "server.log"))
	w.withoutConsoles()
	w.nothingLeft(before)
}

// Two that start one at the same moment get the same.
func TestUpBackgroundTogether(t *testing.T) {
	w := makeWorld(t)
	var all []*background
	for range 4 {
		all = append(all, w.start("up", "--until-idle", "3s", "--background", "--json", "--rung", "plain"))
	}
	for _, b := range all {
		if code := b.wait(); code != 0 || !strings.Contains(b.output(), "/server.sock") {
			t.Errorf("exit code %d: %s", code, b.output())
		}
	}
	w.muster("ps").ok(t)
	w.serverEnds()
}
