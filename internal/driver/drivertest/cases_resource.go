package drivertest

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

var resourceCases = []testCase{
	{"memory limit", "MemoryLimit", memoryLimit},
	{"CPU is a share", "CPUShare", cpuShare},
	{"CPU is a cap in hard mode", "CPUCap", cpuCap},
	{"GPUs are given and hidden", "GPU", gpus},
}

func memoryLimit(w *world) {
	p := w.open()
	p.startMain()
	sibling := p.worker(Print{"ready"}, Hang{})
	p.start(sibling)
	p.awaitText(sibling.ID, "ready\n")
	const limit = 200e6
	big, fits := p.worker(Allocate{1e9}, Print{"never"}), p.worker(Allocate{50e6}, Print{"fits"})
	big.Resources.MemoryBytes, fits.Resources.MemoryBytes = limit, limit
	p.start(big, fits)
	e := p.awaitExit(big.ID)
	if e.Reason != engine.ReasonOutOfMemory || e.Code != 137 || e.MemoryLimitBytes != limit {
		w.t.Errorf("exit %+v, want out of memory, code 137, limit %d", e, int64(limit))
	}
	if e.MemoryPeakBytes < limit*8/10 || e.MemoryPeakBytes > limit*11/10 {
		w.t.Errorf("peak %d, want about the limit %d", e.MemoryPeakBytes, int64(limit))
	}
	if !strings.Contains(e.Message, "200 MB") {
		w.t.Errorf("message %q does not name the limit", e.Message)
	}
	p.expectStdout(big.ID, "")
	expectExit(w, p.awaitExit(fits.ID), engine.ReasonSucceeded, 0, 0)
	if n := p.observed(driver.Exited, sibling.ID); n != 0 {
		w.t.Error("its sibling ended as well")
	}
}

// oneCPU is a core that this process may use.
func oneCPU(w *world) int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		w.t.Fatal(err)
	}
	for i := range 1024 {
		if set.IsSet(i) {
			return i
		}
	}
	w.t.Fatal("no CPU")
	return 0
}

// cpuShare lets two engines fight for one core until the heavier has used 2 s of it.
func cpuShare(w *world) {
	p := w.open()
	p.startMain()
	half, full := p.worker(Spin{1000}), p.worker(Spin{2})
	half.Resources.CPU, full.Resources.CPU = 0.5, 1
	half.CPUSet, full.CPUSet = []int{oneCPU(w)}, []int{oneCPU(w)}
	p.start(half, full)
	f := p.awaitExit(full.ID)
	p.stop(half.ID, 0, "somebody")
	h := p.awaitExit(half.ID)
	ratio := float64(h.CPUNanos) / float64(f.CPUNanos)
	w.t.Logf("CPU of shares 0.5 and 1: %d ms and %d ms, ratio %.2f", h.CPUNanos/1e6, f.CPUNanos/1e6, ratio)
	if !(ratio > 0.35 && ratio < 0.65) {
		w.t.Errorf("CPU used: %d ms and %d ms, ratio %.2f, want about 0.5", h.CPUNanos/1e6, f.CPUNanos/1e6, ratio)
	}
}

// cpuCap gives an engine a quarter of a core of an idle machine: its own clock shows how long 0.5 CPU seconds take.
func cpuCap(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Spin{0.5})
	spec.Resources.CPU, spec.HardCPU = 0.25, true
	p.start(spec)
	started := p.await("start", func(o driver.Observation) bool { return o.Kind == driver.Started && o.Engine == spec.ID })
	e := p.awaitExit(spec.ID)
	// At least: a busy machine makes it longer, only a missing cap makes it shorter.
	if took := e.At.Sub(started.At); took.Seconds() < 1.4 {
		w.t.Errorf("0.5 CPU seconds at a cap of 0.25 cores took %v, want about 2 s", took)
	}
}

func gpus(w *world) {
	if len(w.f.GPUs) == 0 {
		w.t.Fatal("the driver declares GPU, the factory has none")
	}
	p := w.open()
	p.startMain()
	var steps []Step
	var nodes []string
	for _, g := range w.f.GPUs {
		for _, n := range g.Nodes {
			if _, err := os.Stat(n); err != nil {
				w.t.Fatal(err)
			}
			steps, nodes = append(steps, Exists{n}), append(nodes, n)
		}
	}
	none := p.worker(steps...)
	p.start(none)
	p.awaitExit(none.ID)
	p.expectStdout(none.ID, "no "+strings.Join(nodes, "\nno ")+"\n")
	for _, g := range w.f.GPUs {
		one := p.worker(steps...)
		one.GPUs, one.Resources.GPUs = []driver.GPU{g}, 1
		p.start(one)
		p.awaitExit(one.ID)
		got := p.text(one.ID, console.Stdout)
		if strings.Count(got, "yes ") != len(g.Nodes) || !strings.Contains(got, "yes "+g.Nodes[0]+"\n") {
			w.t.Errorf("given %v, sees %q", g.Nodes, got)
		}
	}
}
