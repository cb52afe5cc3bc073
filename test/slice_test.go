package test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A worker has the slice that any process has, and its init a short one, where the kernel knows such: it is to pass on at once what the
// worker has said.
func TestSlices(t *testing.T) {
	short := shortSlice(t)
	const tell = `
import ctypes, platform, struct, subprocess, sys
number = {"x86_64": 315, "aarch64": 275}[platform.machine()]  # sched_getattr(2)
def slice(pid):
    told = ctypes.create_string_buffer(56)
    ctypes.CDLL(None).syscall(number, pid, told, 56, 0)
    _, policy, flags, nice, _, runtime = struct.unpack("<IIQiIQ", told.raw[:32])
    return policy, flags, nice, runtime
`
	for _, ahead := range []string{"off", "on"} {
		w := newWorld(t)
		w.env = append(w.env, "MUSTER_AHEAD="+ahead)
		w.write("tell.py", tell+"print(slice(0), slice(1)[3])\nsys.stdout.flush()\nsubprocess.call([sys.executable, '-c', 'pass'])\n")
		w.write("session.py", tell+`
import cdsw, time
print("usual", slice(0), `+fmt.Sprint(short)+`, flush=True)
for _ in range(3):
    cdsw.await_workers(cdsw.launch_workers(1, cpu=0.1, memory=0.2, script="tell.py"))
    time.sleep(0.3)
`)
		out := w.start("run", "session.py")
		if code := out.wait(); code != 0 {
			t.Fatalf("exit code %d: %s", code, tail(out.output()))
		}
		usual, said := "", []string{}
		for _, l := range lines(out.output()) {
			if u, is := strings.CutPrefix(l, "usual "); is {
				usual = u
			} else if _, text, _ := strings.Cut(l, "] "); strings.HasPrefix(text, "(") {
				said = append(said, text)
			}
		}
		if want := []string{usual, usual, usual}; !slices.Equal(said, want) {
			t.Errorf("ahead %s: slices of workers, and of their inits: %q, want %q", ahead, said, want)
		}
	}
}

// shortSlice is what a thread has that asked for the shortest slice, in nanoseconds; 0 where the kernel does not tell.
func shortSlice(t *testing.T) uint64 {
	t.Helper()
	got := make(chan uint64)
	go func() {
		runtime.LockOSThread() // which ends with this goroutine
		unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Runtime: 100_000}, 0)
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			attr = &unix.SchedAttr{}
		}
		got <- attr.Runtime
	}()
	return <-got
}
