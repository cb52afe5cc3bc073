package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// On a kernel whose controllers are in version 2. What all versions have in common is in real_test.go.

// The kernel's own files take what is written, up and down.
func TestKernelTakesLimitsV2(t *testing.T) {
	tree := requireVersion(t, 2)
	dir := group(t, tree).Paths().V2
	g := Open(Paths{V2: dir})
	for _, mib := range []int64{64, 256, 32, 0, 128} {
		must(t, g.Limit(Limits{MemoryBytes: mib << 20}))
		most, swap := fmt.Sprintln(mib<<20), "0\n"
		if mib == 0 {
			most, swap = "max\n", "max\n"
		}
		has(t, most, dir, "memory.max")
		if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err == nil {
			has(t, swap, dir, "memory.swap.max")
		}
		has(t, "1\n", dir, "memory.oom.group")
	}
	for cores, want := range map[float64]string{0: "100\n", 0.5: "50\n", 4: "400\n", 0.0001: "1\n", 1e9: "10000\n"} {
		must(t, g.Limit(Limits{CPUWeight: cores}))
		has(t, want, dir, "cpu.weight")
	}
	for cores, want := range map[float64]string{0.5: "50000 100000\n", 2: "200000 100000\n", 1e-6: "1000 100000\n", 0: "max 100000\n"} {
		must(t, g.Limit(Limits{CPUCap: cores}))
		has(t, want, dir, "cpu.max")
	}
	must(t, g.Limit(Limits{Pids: 7}))
	has(t, "7\n", dir, "pids.max")
	must(t, g.Limit(Limits{}))
	has(t, "max\n", dir, "pids.max")
}

// A set of CPUs is in force for what runs in the group, and taken back.
func TestCPUSetV2(t *testing.T) {
	tree := require(t, CPUSet)
	if tree.support[CPUSet].Version != 2 {
		t.Skip("capability cgroup v2: cpuset is in version 1 here")
	}
	g := group(t, tree)
	cpu := aCPU(t)
	must(t, g.Limit(Limits{CPUSet: []int{cpu}}))
	cmd := start(t, g, "sleep 1000")
	allowed := func() string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		must(t, err)
		_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:")
		line, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(line)
	}
	if got := allowed(); got != fmt.Sprint(cpu) {
		t.Errorf("runs on %s, want %d", got, cpu)
	}
	must(t, g.Limit(Limits{}))
	own, err := os.ReadFile("/proc/self/status")
	must(t, err)
	if !strings.Contains(string(own), "Cpus_allowed_list:\t"+allowed()+"\n") {
		t.Errorf("without a set it runs on %s, unlike this process", allowed())
	}
	if err := g.Limit(Limits{CPUSet: []int{5000}}); err == nil || !strings.Contains(err.Error(), "5000") {
		t.Errorf("CPU 5000: %v", err)
	}
}

// One process over the limit ends all of the group, also those that use next to nothing, and nobody else.
func TestOutOfMemoryEndsAllV2(t *testing.T) {
	tree := requireVersion(t, 2)
	g, other := group(t, tree), group(t, tree)
	must(t, g.Limit(Limits{MemoryBytes: 48 << 20}))
	must(t, other.Limit(Limits{MemoryBytes: 48 << 20}))
	calm, beside := start(t, g, "exec sleep 1000"), start(t, other, "exec sleep 1000")
	start(t, g, "tail /dev/zero; sleep 1000")
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(calm.Process.Pid, &status, 0, nil); err != nil || status.Signal() != syscall.SIGKILL {
		t.Errorf("the calm one: %v, %v", status, err)
	}
	eventually(t, "the group is empty", func() bool {
		pids, err := g.Processes()
		must(t, err)
		return len(pids) == 0
	})
	if s := stats(t, g); s.OOMKills < 2 {
		t.Errorf("%d kills counted", s.OOMKills)
	}
	if pids, err := other.Processes(); err != nil || !slices.Contains(pids, beside.Process.Pid) {
		t.Errorf("the other group has %v, %v", pids, err)
	}
}

// A group with processes in it is not removed, and the wait for them has an end.
func TestInUseV2(t *testing.T) {
	tree := requireVersion(t, 2)
	g := group(t, tree)
	start(t, g, "sleep 1000")
	if err := rmdir(g.Paths().V2, time.Now()); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("removing a group that is in use: %v", err)
	}
	held, err := g.Hold()
	must(t, err)
	if !g.Held() {
		t.Error("nobody holds it")
	}
	must(t, held.Close())
	if g.Held() {
		t.Error("still held")
	}
}

// Where the calling process is alone in a group that it was given, it moves to a leaf and so do what it starts, and groups
// can be made beside them; a second process that is born in the leaf finds the same tree.
func TestGivenGroupV2(t *testing.T) {
	tree := requireVersion(t, 2)
	if !tree.v2Self {
		t.Skip("capability delegation: this process is not alone in a control group of its own")
	}
	g := group(t, tree)
	if filepath.Dir(filepath.Dir(g.Paths().V2)) != tree.v2 {
		t.Errorf("%s is not below %s", g.Paths().V2, tree.v2)
	}
	again, err := Detect("", "")
	must(t, err)
	if again.v2 != tree.v2 || !again.v2Self || !again.Has(Memory) {
		t.Errorf("from the leaf: %q, %+v", again.v2, again.support)
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	if !strings.HasSuffix(strings.TrimSpace(string(text)), "/"+serverLeaf) {
		t.Errorf("this process is in %s", text)
	}
}
