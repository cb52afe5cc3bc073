package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// On plain folders: what the version 2 writer writes. (The kernel's side of it runs where a machine has version 2.)

var files2 = []string{
	"cgroup.procs", "cgroup.subtree_control", "cpu.weight", "cpu.max", "cpu.stat", "cpuset.cpus", "memory.max",
	"memory.swap.max", "memory.oom.group", "memory.current", "memory.peak", "memory.events", "pids.max", "pids.current",
}

func tree2(t *testing.T, m machine) *Tree {
	t.Helper()
	tree, err := Detect(m.build(t))
	must(t, err)
	tree.made = func(dir string) {
		for _, f := range files2 {
			must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
		}
	}
	return tree
}

func has(t *testing.T, want string, path ...string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(path...))
	if err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", path[len(path)-1], got, err, want)
	}
}

func TestPrepareMovesToLeaf(t *testing.T) {
	tree := tree2(t, machines[4])
	must(t, tree.Prepare())
	has(t, fmt.Sprint(os.Getpid()), tree.v2, "muster-server", "cgroup.procs")
	has(t, "+cpu +memory +pids", tree.v2, "cgroup.subtree_control")
	must(t, tree.Prepare())
	g, err := tree.New("one")
	must(t, err)
	has(t, "+cpu +memory +pids", tree.v2, "muster", "cgroup.subtree_control")
	if want := filepath.Join(tree.v2, "muster", "one"); g.Paths().V2 != want || len(g.Paths().V1) != 0 {
		t.Errorf("paths %+v", g.Paths())
	}
	if _, err := tree.New("one"); !errors.Is(err, unix.EEXIST) {
		t.Errorf("twice: %v", err)
	}
	names, err := tree.List()
	if err != nil || !reflect.DeepEqual(names, []string{"one"}) {
		t.Errorf("List = %v, %v", names, err)
	}
}

// The root group, and a group that others are in, are not left by Prepare.
func TestPrepareStays(t *testing.T) {
	for _, i := range []int{3, 6, 7} {
		tree := tree2(t, machines[i])
		must(t, tree.Prepare())
		if _, err := os.Stat(filepath.Join(tree.v2, "muster-server")); !os.IsNotExist(err) {
			t.Errorf("%s: %v", machines[i].name, err)
		}
		if i > 3 { // memory and pids were handed on already
			has(t, "+cpu", tree.v2, "cgroup.subtree_control")
		}
	}
	tree := tree2(t, machines[8])
	must(t, tree.Prepare())
}

func TestLimitV2(t *testing.T) {
	tree := tree2(t, machines[3])
	g, err := tree.New("one")
	must(t, err)
	dir := g.Paths().V2
	must(t, g.Limit(Limits{CPUWeight: 0.5, CPUCap: 1.5, CPUSet: []int{0, 3}, MemoryBytes: 200_000_000, Pids: 77}))
	has(t, "50", dir, "cpu.weight")
	has(t, "150000 100000", dir, "cpu.max")
	has(t, "0,3", dir, "cpuset.cpus")
	has(t, "200000000", dir, "memory.max")
	has(t, "0", dir, "memory.swap.max")
	has(t, "1", dir, "memory.oom.group")
	has(t, "77", dir, "pids.max")
	must(t, g.Limit(Limits{}))
	has(t, "100", dir, "cpu.weight")
	has(t, "max 100000", dir, "cpu.max")
	has(t, "\n", dir, "cpuset.cpus")
	has(t, "max", dir, "memory.max")
	has(t, "max", dir, "memory.swap.max")
	has(t, "max", dir, "pids.max")
	for cores, want := range map[float64]string{0.001: "1", 0.2: "20", 4: "400", 1000: "10000"} {
		must(t, g.Limit(Limits{CPUWeight: cores}))
		has(t, want, dir, "cpu.weight")
	}
	must(t, os.Remove(filepath.Join(dir, "memory.swap.max"))) // a kernel without swap
	must(t, g.Limit(Limits{MemoryBytes: 1 << 20}))
	must(t, g.Limit(Limits{CPUCap: 0.001}))
	has(t, "1000 100000", dir, "cpu.max")
}

func TestStatsV2(t *testing.T) {
	tree := tree2(t, machines[3])
	g, err := tree.New("one")
	must(t, err)
	dir := g.Paths().V2
	for file, text := range map[string]string{
		"memory.current": "1000\n", "memory.peak": "5000\n", "pids.current": "3\n",
		"memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 1\n",
		"cpu.stat":      "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
	want := Stats{MemoryBytes: 1000, MemoryPeakBytes: 5000, OOMKills: 1, CPUNanos: 1_234_000, Pids: 3}
	if s, err := g.Stats(); err != nil || s != want {
		t.Errorf("Stats = %+v, %v; want %+v", s, err, want)
	}
	must(t, os.Remove(filepath.Join(dir, "memory.peak"))) // before Linux 5.19
	if s, err := g.Stats(); err != nil || s.MemoryPeakBytes != 0 || s.MemoryBytes != 1000 {
		t.Errorf("Stats = %+v, %v", s, err)
	}
	must(t, os.RemoveAll(dir))
	if _, err := g.Stats(); !errors.Is(err, ErrGone) {
		t.Errorf("after removal: %v", err)
	}
}

func TestOOMEventsV2(t *testing.T) {
	tree := tree2(t, machines[3])
	g, err := tree.New("one")
	must(t, err)
	events := filepath.Join(g.Paths().V2, "memory.events")
	must(t, write(events, "oom_kill 4\n"))
	o, err := g.OOMEvents()
	must(t, err)
	got := make(chan string, 1)
	go func() {
		n, err := o.Wait()
		got <- fmt.Sprint(n, " ", err)
	}()
	f, err := os.OpenFile(events, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("oom_kill 6\n") // in place, as one change
	must(t, errors.Join(err, f.Close()))
	if s := <-got; s != "2 <nil>" {
		t.Errorf("Wait = %s", s)
	}
	go func() {
		_, err := o.Wait()
		got <- fmt.Sprint(errors.Is(err, os.ErrClosed))
	}()
	must(t, o.Close())
	must(t, o.Close())
	if s := <-got; s != "true" {
		t.Errorf("Wait after Close: %s", s)
	}
}

// For real: a child is born in a version 2 group, and what it used is counted there. Any hierarchy does, with or without
// controllers.
func TestBornInV2(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test makes a control group")
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	var dir string
	for _, m := range parseMounts(string(text), "/sys/fs/cgroup") {
		if m.version == 2 && m.root == "/" {
			dir = filepath.Join(m.dir, fmt.Sprintf("muster-test-%d", os.Getpid()), "one")
		}
	}
	if dir == "" {
		t.Skip("capability cgroup v2: no hierarchy of version 2 is mounted")
	}
	must(t, os.MkdirAll(dir, 0o755))
	g := Open(Paths{V2: dir})
	defer func() {
		must(t, g.Remove())
		if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
			t.Errorf("the parent is still there: %v", err)
		}
		must(t, g.Remove())
	}()
	fd, err := g.FD()
	must(t, err)
	defer fd.Close()
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; cat /proc/self/cgroup; read x")
	in, err := cmd.StdinPipe()
	must(t, err)
	var out strings.Builder
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	must(t, cmd.Start())
	pids, err := g.Processes()
	if err != nil || len(pids) == 0 || pids[0] != cmd.Process.Pid {
		t.Errorf("Processes = %v, %v; want %d", pids, err, cmd.Process.Pid)
	}
	in.Close()
	cmd.Wait()
	if want := "0::/" + filepath.Base(filepath.Dir(dir)) + "/one\n"; !strings.Contains(out.String(), want) {
		t.Errorf("the child was in %s; want %s", out.String(), want)
	}
	if s, err := g.Stats(); err != nil || s.CPUNanos < int64(time.Millisecond) {
		t.Errorf("Stats = %+v, %v", s, err)
	}
}
