package main

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// The short form of "make chaos": the same faults against fewer workers. What a run finds it prints.
func TestChaos(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: faults need isolated engines and a disk of their own")
	}
	seed := time.Now().UnixNano() % 1e9
	var out bytes.Buffer
	r, err := run(options{seed: seed, length: 25 * time.Second, workers: 20, faults: 45, binary: "../../bin/muster", log: &out})
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	if r.faults == 0 {
		t.Error("no fault was made")
	}
	for _, v := range r.violations {
		t.Errorf("seed %d: %s", seed, v)
	}
}

// The short form of "make launches".
func TestLaunchesLeaveNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: what is counted is what isolated engines leave")
	}
	var out bytes.Buffer
	r, err := launches(options{row: 200, workers: 50, binary: "../../bin/muster", log: &out})
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.violations {
		t.Error(v)
	}
}
