package cgroup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// On the real thing, whichever version the machine has: as root, and with version 2 also as a user to whom systemd delegated.

// The main thread is reserved for TestMain: other goroutines work on throwaway threads.
func init() { runtime.LockOSThread() }

// What a test wants to have done on the main thread.
var onMain, onMainDone = make(chan func()), make(chan struct{})

func TestMain(m *testing.M) {
	code := make(chan int)
	go func() { code <- m.Run() }()
	for {
		select {
		case fn := <-onMain:
			fn()
			onMainDone <- struct{}{}
		case c := <-code:
			if err := goleak.Find(); err != nil && c == 0 {
				fmt.Fprintln(os.Stderr, err)
				c = 1
			}
			os.Exit(c)
		}
	}
}

const deadline = 30 * time.Second

var numbers atomic.Int64

// require is the machine's tree; without the controllers named, or those that all engines need, the test is skipped.
func require(t *testing.T, more ...string) *Tree {
	t.Helper()
	tree, err := Detect("", "")
	must(t, err)
	for _, c := range append([]string{CPU, CPUAcct, Memory, Pids}, more...) {
		if s := tree.support[c]; !s.Usable {
			t.Skipf("capability cgroup: %s cannot be used: %s", c, s.Reason)
		}
	}
	must(t, tree.Prepare())
	return tree
}

func requireVersion(t *testing.T, version int) *Tree {
	t.Helper()
	tree := require(t)
	for _, c := range []string{CPU, Memory, Pids} {
		if tree.support[c].Version != version {
			t.Skipf("capability cgroup v%d: %s is in version %d here", version, c, tree.support[c].Version)
		}
	}
	return tree
}

// dir is where a controller's files of a group are.
func (g *Group) dir(controller string) string {
	if d := g.paths.V1[controller]; d != "" {
		return d
	}
	return g.paths.V2
}

// group makes a group that is gone after the test, with all processes that the test left in it.
func group(t *testing.T, tree *Tree, extra ...string) *Group {
	t.Helper()
	name := fmt.Sprintf("test-%d-%d", os.Getpid(), numbers.Add(1))
	g, err := tree.New(name, extra...)
	must(t, err)
	t.Cleanup(func() {
		must(t, g.Remove())
		if names, err := tree.List(); err != nil || slices.Contains(names, name) {
			t.Errorf("after Remove: %v, %v", names, err)
		}
		must(t, g.Remove())
	})
	return g
}

// start runs a shell command that is born in the group. It is ended by the test's end.
func start(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	fd, err := g.FD()
	must(t, err)
	if fd != nil {
		defer fd.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(fd.Fd())
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is in the groups of version 1
		err := g.JoinThread()
		if err == nil {
			err = cmd.Start()
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	return cmd
}

// Whoever has the doors enters by them, without rights of its own.
func TestDoors(t *testing.T) {
	g := group(t, require(t))
	doors, err := g.Doors()
	must(t, err)
	if len(doors) == 0 || len(doors) != g.Paths().Count() {
		t.Fatalf("%d doors, %d are counted", len(doors), g.Paths().Count())
	}
	cmd := exec.Command("sh", "-c", "for fd in $(seq 3 $((2 + $1))); do echo 0 >&$fd || exit 1; done; exec sleep 1000", "sh", strconv.Itoa(len(doors)))
	cmd.ExtraFiles = doors
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for _, d := range doors {
		d.Close()
	}
	for _, dir := range g.dirs() {
		eventually(t, "it is in "+dir, func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			return strings.TrimSpace(string(text)) == strconv.Itoa(cmd.Process.Pid)
		})
	}
}

func stats(t *testing.T, g *Group) Stats {
	t.Helper()
	s, err := g.Stats()
	must(t, err)
	return s
}

// eventually waits for a condition that no channel tells.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

// A child is born in the group, in every hierarchy, and this process is not moved.
func TestBornInV1(t *testing.T) {
	tree := requireVersion(t, 1)
	g := group(t, tree, CPUSet)
	cmd := start(t, g, "sleep 1000")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	must(t, err)
	theirs := parseOwn(string(text))
	text, err = os.ReadFile("/proc/self/cgroup")
	must(t, err)
	ours := parseOwn(string(text))
	name := filepath.Base(g.Paths().V1[CPU])
	for _, c := range []string{CPU, CPUAcct, CPUSet, Memory, Pids} {
		if !strings.HasSuffix(theirs[c], "/muster/"+name) || strings.Contains(ours[c], name) {
			t.Errorf("%s: the child is in %s, this process in %s", c, theirs[c], ours[c])
		}
	}
	eventually(t, "the throwaway thread is gone and the child alone is in the group", func() bool {
		pids, err := g.Processes()
		must(t, err)
		return slices.Contains(pids, cmd.Process.Pid) && !slices.Contains(pids, os.Getpid())
	})
	if s := stats(t, g); s.Pids < 1 || s.MemoryBytes <= 0 {
		t.Errorf("stats %+v", s)
	}
	if err := rmdir(g.Paths().V1[Memory], time.Now()); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("removing a group that is in use: %v", err)
	}
}

func TestMainThreadStaysOut(t *testing.T) {
	g := Open(Paths{V1: map[string]string{CPU: t.TempDir()}})
	onMain <- func() {
		if err := g.JoinThread(); err == nil || !strings.Contains(err.Error(), "main thread") {
			t.Errorf("JoinThread on the main thread: %v", err)
		}
	}
	<-onMainDone
}

// Another process gets the group by its paths.
func TestPathsTravel(t *testing.T) {
	tree := require(t)
	g := group(t, tree)
	text, err := json.Marshal(g.Paths())
	must(t, err)
	var p Paths
	must(t, json.Unmarshal(text, &p))
	again := Open(p)
	must(t, again.Limit(Limits{MemoryBytes: 64 << 20, Pids: 9}))
	most, _, _ := g.file(Memory, "memory.limit_in_bytes", "memory.max")
	has(t, fmt.Sprintln(64<<20), most)
	has(t, "9\n", g.dir(Pids), "pids.max")
	by, err := tree.Open(filepath.Base(g.dir(CPU)))
	must(t, err)
	if by.dir(Memory) != g.dir(Memory) {
		t.Errorf("by name: %+v", by.Paths())
	}
}

// The kernel's own files take what is written, up and down.
func TestLimitV1(t *testing.T) {
	tree := requireVersion(t, 1)
	g := group(t, tree, CPUSet)
	dirs := g.Paths().V1
	for _, mib := range []int64{64, 256, 32, 0, 128} {
		must(t, g.Limit(Limits{MemoryBytes: mib << 20}))
		for _, f := range []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"} {
			n, err := readInt(filepath.Join(dirs[Memory], f))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			must(t, err)
			if mib > 0 && n != mib<<20 || mib == 0 && n < 1<<60 {
				t.Errorf("%d MiB: %s is %d", mib, f, n)
			}
		}
	}
	for cores, want := range map[float64]string{0: "1024\n", 0.5: "512\n", 4: "4096\n", 0.0001: "2\n", 1e9: "262144\n"} {
		must(t, g.Limit(Limits{CPUWeight: cores}))
		has(t, want, dirs[CPU], "cpu.shares")
	}
	for cores, want := range map[float64]string{0.5: "50000\n", 2: "200000\n", 0.000001: "1000\n", 0: "-1\n"} {
		must(t, g.Limit(Limits{CPUCap: cores}))
		has(t, want, dirs[CPU], "cpu.cfs_quota_us")
		has(t, "100000\n", dirs[CPU], "cpu.cfs_period_us")
	}
	all, err := os.ReadFile(filepath.Join(dirs[CPUSet], "cpuset.cpus"))
	must(t, err)
	must(t, g.Limit(Limits{CPUSet: []int{0}}))
	has(t, "0\n", dirs[CPUSet], "cpuset.cpus")
	must(t, g.Limit(Limits{}))
	has(t, string(all), dirs[CPUSet], "cpuset.cpus")
	has(t, "max\n", dirs[Pids], "pids.max")
	if err := g.Limit(Limits{CPUSet: []int{5000}}); err == nil || !strings.Contains(err.Error(), "5000") {
		t.Errorf("CPU 5000: %v", err)
	}
}

// A process over the memory limit is killed, the watcher is told, and there is evidence.
func TestOutOfMemory(t *testing.T) {
	tree := require(t)
	g := group(t, tree)
	const limit = 48 << 20
	must(t, g.Limit(Limits{MemoryBytes: limit}))
	o, err := g.OOMEvents()
	must(t, err)
	defer o.Close()
	type result struct {
		n   int64
		err error
	}
	told := make(chan result, 2)
	go func() {
		n, err := o.Wait()
		told <- result{n, err}
	}()
	cmd := start(t, g, "exec tail /dev/zero") // keeps everything until the end, which never comes
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v, want SIGKILL", err)
	}
	if r := <-told; r.n < 1 || r.err != nil { // version 2 counts the process twice: chosen, and as one of the group
		t.Errorf("Wait = %d, %v", r.n, r.err)
	}
	s := stats(t, g)
	if s.OOMKills < 1 || s.OOMKills > 2 || s.MemoryPeakBytes > limit || s.MemoryPeakBytes < limit*9/10 || s.CPUNanos == 0 {
		t.Errorf("stats %+v", s)
	}
	// The next watcher is told nothing of it, and is told when the group is gone, where the kernel tells.
	later, err := g.OOMEvents()
	must(t, err)
	defer later.Close()
	go func() {
		n, err := later.Wait()
		told <- result{n, err}
	}()
	must(t, g.Remove())
	want := ErrGone
	if g.paths.V1[Memory] == "" {
		want = os.ErrClosed
		must(t, later.Close())
	}
	if r := <-told; !errors.Is(r.err, want) {
		t.Errorf("Wait of a removed group: %d, %v", r.n, r.err)
	}
	if _, err := g.Stats(); !errors.Is(err, ErrGone) {
		t.Errorf("Stats of a removed group: %v", err)
	}
}

const busy = "while :; do :; done"

// aCPU is one that this process may use.
func aCPU(t *testing.T) int {
	t.Helper()
	var set unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &set))
	for i := range 1024 {
		if set.IsSet(i) {
			return i
		}
	}
	t.Fatal("no CPU")
	return 0
}

// Half a core against one core, both on one CPU, get one to two. The window ends when enough CPU time was used, however
// long that takes.
func TestShares(t *testing.T) {
	tree := require(t)
	half, one := group(t, tree), group(t, tree)
	must(t, half.Limit(Limits{CPUWeight: 0.5}))
	must(t, one.Limit(Limits{CPUWeight: 1}))
	busyThere := fmt.Sprintf("taskset -cp %d $$ >/dev/null; %s", aCPU(t), busy)
	start(t, half, busyThere)
	start(t, one, busyThere)
	warm, window := int64(200*time.Millisecond), int64(3*time.Second)
	if os.Getenv("MUSTER_TEST_PATIENCE") > "1" { // an emulated machine shares by coarser slices
		window *= 3
	}
	eventually(t, "both run", func() bool { return stats(t, half).CPUNanos > warm && stats(t, one).CPUNanos > warm })
	h, o := stats(t, half).CPUNanos, stats(t, one).CPUNanos
	var dh, do int64
	eventually(t, "enough CPU time is used", func() bool {
		dh, do = stats(t, half).CPUNanos-h, stats(t, one).CPUNanos-o
		return dh+do > window
	})
	ratio := float64(do) / float64(dh)
	t.Logf("%v and %v: 1 to %.3f", time.Duration(dh), time.Duration(do), ratio)
	if ratio < 1.8 || ratio > 2.2 {
		t.Errorf("1 to %.3f, want 1 to 2 within 10 %%", ratio)
	}
}

// With a cap an idle machine gives no more than that.
func TestCap(t *testing.T) {
	tree := require(t)
	g := group(t, tree)
	must(t, g.Limit(Limits{CPUWeight: 1, CPUCap: 0.3}))
	start(t, g, busy)
	eventually(t, "it runs", func() bool { return stats(t, g).CPUNanos > int64(100*time.Millisecond) })
	begin, from := time.Now(), stats(t, g).CPUNanos
	var used int64
	eventually(t, "enough CPU time is used", func() bool {
		used = stats(t, g).CPUNanos - from
		return used > int64(600*time.Millisecond)
	})
	got := float64(used) / float64(time.Since(begin))
	t.Logf("%.3f cores", got)
	if got > 0.3*1.1 {
		t.Errorf("%.3f cores, want at most 0.3", got)
	}
}

func TestPidsLimit(t *testing.T) {
	tree := require(t)
	g := group(t, tree)
	must(t, g.Limit(Limits{Pids: 5}))
	cmd := start(t, g, "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait")
	if err := cmd.Wait(); err == nil {
		t.Error("nine children under a limit of five")
	}
	if s := stats(t, g); s.Pids > 5 {
		t.Errorf("%d processes", s.Pids)
	}
}

// When a group cannot be made in one hierarchy, it is made in none.
func TestNewAllOrNothing(t *testing.T) {
	tree := require(t)
	name := fmt.Sprintf("test-%d-half", os.Getpid())
	last := tree.where(name, nil)
	g := Open(last)
	dirs := g.dirs()
	obstacle := dirs[len(dirs)-1]
	must(t, os.MkdirAll(obstacle, 0o755))
	defer g.Remove()
	if _, err := tree.New(name); !errors.Is(err, syscall.EEXIST) {
		t.Fatalf("New = %v, want EEXIST", err)
	}
	for _, d := range dirs {
		if _, err := os.Stat(d); (err == nil) != (d == obstacle) {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// Groups come and go in several goroutines, and with them the shared parent.
func TestManyAtOnce(t *testing.T) {
	tree := require(t)
	errs := make(chan error)
	for w := range 4 {
		go func() {
			var err error
			for i := range 50 {
				g, e := tree.New(fmt.Sprintf("test-%d-many-%d-%d", os.Getpid(), w, i))
				if e == nil {
					e = errors.Join(g.Limit(Limits{CPUWeight: 1, MemoryBytes: 1 << 30}), g.Remove())
				}
				err = errors.Join(err, e)
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// Whoever may write to the hierarchy can make groups in a group: they count, and go with it.
func TestGroupsInAGroup(t *testing.T) {
	tree := require(t)
	g := group(t, tree) // whose end removes it
	inner := &Group{paths: Paths{V1: map[string]string{}}}
	for c, d := range g.paths.V1 {
		inner.paths.V1[c] = filepath.Join(d, "made", "inside")
	}
	if g.paths.V2 != "" {
		inner.paths.V2 = filepath.Join(g.paths.V2, "made", "inside")
	}
	for _, d := range inner.dirs() {
		must(t, os.MkdirAll(d, 0o755))
	}
	cmd := start(t, inner, "sleep 1000")
	if pids, err := g.Processes(); err != nil || !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("processes %v, %v: %d is in a group of the group", pids, err, cmd.Process.Pid)
	}
}
