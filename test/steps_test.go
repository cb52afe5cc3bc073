package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// "make steps" finds every step of a launch in what was recorded: a way that has changed is described anew.
func TestStepsOfALaunch(t *testing.T) {
	requireStrace(t)
	w := newWorld(t)
	file := filepath.Join(w.root, "steps.json")
	cmd := exec.Command("python3", "-m", "bench.steps", "--runs", "6", "--recorder", "strace", "--json", file)
	cmd.Dir, cmd.Env = repo(t), append(w.env, "MUSTER_BIN="+binary(t))
	t.Log("\n" + w.finish(cmd, 4*deadline).ok(t).out)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Rows []struct {
			Step  string
			Count int
		}
	}
	if err := json.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	for _, r := range told.Rows {
		if r.Count < 2 {
			t.Errorf("%q was seen %d times in 6 launches: bench/steps.py looks for another call than the one that is made", r.Step, r.Count)
		}
	}
}
