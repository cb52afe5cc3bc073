package test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// callBounds are what one launch of a worker that was started ahead may cost in system calls: until its first line has come to the
// session's process, and until the worker has ended and another one waits in its place. The figures were counted on 23 November 2026
// (Linux 6.18, x86-64, cgroup v1, root rung); the bounds are a quarter more. A change that needs more says why, and sets them anew.
var callBounds = map[string]struct{ line, round float64 }{
	"server": {bound(119), bound(452)}, // a third of it looks whether what waits is still what would be started now
	"keeper": {bound(59), bound(351)},
	"init":   {bound(6), bound(893)}, // and the spawner, which is the same program
}

func bound(figure float64) float64 { return math.Ceil(figure * 1.25) }

// notCounted depend on when who runs: waiting and waking, threads and memory of Go's runtime, its preemption by signals, and the
// database's own pace of writing back. What is left is the same in each launch.
var notCounted = []string{
	"futex", "epoll_wait", "epoll_pwait", "nanosleep", "clock_nanosleep", "sched_yield", "restart_syscall",
	"clone", "clone3", "exit", "gettid", "sigaltstack", "rt_sigprocmask", "set_robust_list", "rseq", "mmap", "munmap", "madvise", "prctl",
	"tgkill", "getpid", "rt_sigreturn", "fsync", "fdatasync", "ftruncate",
}

// countedSession launches one worker after the other, each when two wait again, and tells when each began and when its line came.
const countedSession = `
import glob, os, sys, threading, time

class Console:
    def __init__(self):
        self.came, self.at = threading.Event(), 0
    def write(self, text):
        if "first line" in text:
            self.at = time.time()
            self.came.set()
        return len(text)
    def flush(self):
        pass

def parent(pid):
    with open("/proc/%s/status" % pid) as f:
        return next(l.split()[1] for l in f if l.startswith("PPid:"))

def waits(pid, keeper):
    try:
        with open("/proc/%s/cmdline" % pid) as f:
            if "_runner.py" not in f.read() or not any(os.readlink(f).endswith("/work") for f in glob.glob("/proc/%s/fd/*" % pid)):
                return False
        return keeper in (parent(parent(pid)), parent(parent(parent(pid))))  # of an init, or of an init of the spawner
    except (OSError, StopIteration):  # it has ended
        return False

def settle(keeper):
    deadline = time.time() + 30
    while sum(waits(p, keeper) for p in os.listdir("/proc") if p.isdigit()) != 2:
        if time.time() > deadline:
            sys.exit("two engines do not wait")
        time.sleep(0.02)
    time.sleep(0.2)  # until the server has heard of them

console, said = Console(), sys.stdout
sys.stdout = console
import cdsw

def launch():
    console.came.clear()
    begin = time.time()
    ws = cdsw.launch_workers(1, cpu=1, memory=1, code="print('first line'); said = open('/proc/self/cmdline').read(); ahead = 'wait' in said or 'fork' in said; raise SystemExit(0 if ahead else 3)")
    if not console.came.wait(30):
        sys.exit("no line came")
    ahead = cdsw.await_workers(ws)["workers"] != []
    return begin, console.at, ahead

launch()  # what is made once is made now
launch()
time.sleep(1)
launch()
print("attached", file=said, flush=True)
keeper = sys.stdin.readline().strip()
settle(keeper)
print("settled", file=said, flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[1])):
    print("LAUNCH %.6f %.6f %s" % launch(), file=said, flush=True)
    settle(keeper)
print("END %.6f" % time.time(), file=said, flush=True)
sys.stdin.readline()
`

const countedLaunches = 20

// The system calls of a launch are counted, not timed: more of them are a regression, however fast the machine is.
func TestSystemCallsOfALaunch(t *testing.T) {
	requireStrace(t)
	w := newAheadWorld(t)
	up := w.server("--web", "none")
	w.write("session.py", countedSession)
	cmd := exec.Command("python3", "-u", "session.py", fmt.Sprint(countedLaunches))
	cmd.Dir, cmd.Env = w.project, append(w.env, "MUSTER_BIN="+binary(t), "PYTHONPATH="+filepath.Join(repo(t), "clients", "python"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	b := w.begin(cmd)
	b.await("attached")
	keepers := w.keepers()
	if len(keepers) != 1 {
		t.Fatalf("there are keepers %v", keepers)
	}
	fmt.Fprintln(in, keepers[0])
	b.await("settled")
	s := w.watch(append(descendantsOf(keepers[0]), up.cmd.Process.Pid, keepers[0])...)
	fmt.Fprintln(in)
	for n := range countedLaunches {
		until(t, "another launch", func() bool { return strings.Count(b.output(), "LAUNCH ") > n })
	}
	b.await("END")
	calls := s.calls()
	in.Close()
	if code := b.wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, tail(b.output()))
	}
	compareCalls(t, calls, launchesIn(t, b.output()))
}

// span is one launch: when it began, when its line came, and when the next one began.
type span struct{ begin, line, end float64 }

// launchesIn reads what the session told of its launches. Those that met no engine that waited are left out: on a busy machine some do.
func launchesIn(t *testing.T, output string) (all []span) {
	t.Helper()
	var last *span
	for _, l := range lines(output) {
		var s span
		var ahead string
		fmt.Sscanf(l, "END %f", &s.begin)
		if fmt.Sscanf(l, "LAUNCH %f %f %s", &s.begin, &s.line, &ahead); s.begin == 0 {
			continue
		}
		if last != nil {
			last.end = s.begin
		}
		if last = nil; ahead == "True" {
			all = append(all, s)
			last = &all[len(all)-1]
		}
	}
	if len(all) < countedLaunches/2 {
		t.Fatalf("%d workers of %d had been started ahead, although two waited for each:\n%s", len(all), countedLaunches, tail(output))
	}
	return all
}

// tally counts calls by name.
type tally map[string]float64

func (t tally) sum() (n float64) {
	for _, m := range t {
		n += m
	}
	return n
}

// tallies counts a process's calls from the beginning of each launch to its line, or to the next launch.
func tallies(calls []call, process string, launches []span, to func(span) float64) []tally {
	all := make([]tally, len(launches))
	for i, s := range launches {
		all[i] = tally{}
		for _, c := range calls {
			if c.process == process && c.at >= s.begin && c.at < to(s) && !slices.Contains(notCounted, c.name) {
				all[i][c.name]++
			}
		}
	}
	slices.SortFunc(all, func(a, b tally) int { return cmp.Compare(a.sum(), b.sum()) })
	return all
}

func compareCalls(t *testing.T, calls []call, launches []span) {
	t.Helper()
	for _, process := range []string{"server", "keeper", "init"} {
		most := callBounds[process]
		lines := tallies(calls, process, launches, func(s span) float64 { return s.line })
		rounds := tallies(calls, process, launches, func(s span) float64 { return s.end })
		line, round := lines[len(lines)/2].sum(), rounds[len(rounds)/2].sum()
		t.Logf("%s: until the line %.0f calls (%.0f to %.0f), at most %.0f; with its end and the next one's start %.0f (%.0f to %.0f), at most %.0f\n  line:  %s\n  round: %s",
			process, line, lines[0].sum(), lines[len(lines)-1].sum(), most.line, round, rounds[0].sum(), rounds[len(rounds)-1].sum(), most.round,
			mostOf(lines[len(lines)/2]), mostOf(rounds[len(rounds)/2]))
		if line > most.line || round > most.round {
			t.Errorf("the %s makes more system calls for a launch than it may: if they are needed, say why and set the bounds anew", process)
		}
	}
}

// mostOf names the calls of which there are most.
func mostOf(counts tally) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	var said []string
	for _, n := range names[:min(len(names), 12)] {
		said = append(said, fmt.Sprintf("%s %.0f", n, counts[n]))
	}
	return strings.Join(said, ", ")
}

// descendantsOf lists the children of a process, theirs, and so on.
func descendantsOf(pid int) (all []int) {
	for _, child := range childrenOf(pid) {
		all = append(append(all, child), descendantsOf(child)...)
	}
	return all
}

// childrenOf lists the processes that a process has started and not yet waited for.
func childrenOf(pid int) (all []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, f := range files {
		status, _ := os.ReadFile(f) // an error: it has ended
		if bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", pid)) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			all = append(all, child)
		}
	}
	return all
}
