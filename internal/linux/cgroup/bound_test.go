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
	tree := require(t)
	g := group(t, tree)
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
