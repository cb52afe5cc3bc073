package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// All engines together leave process numbers to the machine.
func TestProcessesOfAllGroupsAreBounded(t *testing.T) {
	tree, err := Detect("", "")
	if err != nil {
		t.Fatal(err)
	}
	if !tree.Has(Pids) {
		t.Skip("capability PidsLimit: " + tree.support[Pids].Reason)
	}
	g, err := tree.New("muster-test-bound-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Remove()
	path, _, ok := g.file(Pids, "pids.max", "pids.max")
	if !ok {
		t.Fatal("the group has no limit of processes")
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(path)), "pids.max"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < Numbers()/2 || n >= Numbers() {
		t.Errorf("all groups together may have %q processes of %d", text, Numbers())
	}
}
