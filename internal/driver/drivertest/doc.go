// Package drivertest is the conformance suite of the driver contract: every driver passes it, and a test of a driver is a
// Factory and one call of Run. Only tests import it.
//
// The suite says what engines are to do as Steps ("print this", "listen there", "hang"); the Factory expresses them in
// what its engines can run. Python is ready-made for drivers with real processes. Whatever a driver declares in its
// Capabilities must work. What its kind lacks is in Factory.Lacks and not asked for; what is neither declared nor there
// is lacking on this machine: a skip, which says so.
//
// Each case compares Factory.Count before and after: what a case leaves behind is a failure of that case. Nothing here
// is timed: things must happen before a deadline that is generous on the slowest machine.
package drivertest

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/driver"
)

// Deadline is how long anything may take that must happen; longer on an emulated machine, which sets MUSTER_TEST_PATIENCE.
var Deadline = 30 * time.Second * patience()

func patience() time.Duration {
	n, err := strconv.Atoi(os.Getenv("MUSTER_TEST_PATIENCE"))
	if err != nil || n < 1 {
		return 1
	}
	return time.Duration(n)
}

// grace is how long engines have between SIGTERM and SIGKILL where a case does not need another time.
const grace = 2 * time.Second

// Factory is what the suite needs of a driver's test.
type Factory struct {
	// New returns a driver. Places of earlier ones are gone by then. The suite closes it.
	New func(t *testing.T) driver.Driver
	// Express puts a program in what the driver's engines can run, ErrCannot if that is not possible.
	Express func(steps ...Step) (Program, error)
	// Restart closes d and returns a new driver over the same places, as after a restart of the server. Needed by drivers
	// that declare Survives.
	Restart func(t *testing.T, d driver.Driver) driver.Driver
	// FailAt returns a driver in which the start of engines named "fails" goes wrong at that step. Without it, or without
	// Steps, nothing is injected.
	FailAt func(t *testing.T, step string) driver.Driver
	Steps  []string
	// Count tells how much there is of everything that a driver makes (processes, cgroups, links…), to compare.
	Count func() map[string]int
	// Ahead is the command line of an interpreter that waits for what Express made (PythonAhead). Needed by drivers that declare Ahead.
	Ahead []string
	// Fork is the command line of a zygote from which such interpreters are forked (PythonFork); nil: nothing is forked.
	Fork []string
	// UID, GID and Groups of the engines.
	UID, GID int
	Groups   []int
	// Lacks names the capabilities that this kind of driver does not have on any machine.
	Lacks []string
	// GPUs that can be given to engines, for drivers that declare GPU.
	GPUs []driver.GPU
}

// ErrCannot is what Express returns for steps that a driver's engines cannot do whatever the driver declares.
var ErrCannot = errors.New("these engines have no way to do it")

// Run runs the suite.
func Run(t *testing.T, f Factory) {
	for _, name := range f.Lacks {
		if _, known := capabilities(driver.Capabilities{})[name]; !known {
			t.Fatalf("Lacks names %q, which is no capability", name)
		}
	}
	for _, c := range cases {
		f.runCase(t, c, cold)
	}
	runInjected(t, &f)
	if slices.Contains(f.Lacks, "Ahead") {
		return
	}
	again := func(name string, h how) {
		t.Run(name, func(t *testing.T) {
			for _, c := range cases {
				c.needs += " Ahead"
				f.runCase(t, c, h)
			}
		})
	}
	again("started ahead", ahead)
	if f.Fork != nil {
		again("forked", forked)
	}
}

// how workers come to be.
type how int

const (
	cold   how = iota // with their work
	ahead             // before it
	forked            // before it, from a zygote: where that does not fork, no worker starts
)

func (f *Factory) runCase(t *testing.T, c testCase, h how) {
	needs := strings.Fields(c.needs)
	if slices.ContainsFunc(needs, func(n string) bool { return slices.Contains(f.Lacks, n) }) {
		return
	}
	t.Run(c.name, func(t *testing.T) {
		before := f.Count()
		w := &world{t: t, f: f, d: f.New(t), how: h}
		t.Cleanup(func() { w.checkNothingLeft(before) }) // runs last
		t.Cleanup(func() { w.d.Close() })
		if both := contradiction(f.Lacks, w.d.Capabilities()); both != "" {
			t.Fatalf("%s declares %s, and its test says that it lacks that: its cases would not be run", w.d.Capabilities().Name, both)
		}
		for _, n := range needs {
			if !declared(w.d.Capabilities(), n) {
				t.Skipf("capability %s: %s does not have it on this machine", n, w.d.Capabilities().Name)
			}
		}
		c.run(w)
	})
}

type testCase struct {
	name  string
	needs string // capabilities, "" for none
	run   func(w *world)
}

// cases in the order of the files cases_*.go.
var cases = concat(lifeCases, outputCases, placeCases, networkCases, resourceCases, sessionCases, attachedCases, aheadCases)

func concat(lists ...[]testCase) []testCase {
	var all []testCase
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// declared reads a capability by its name.
func declared(c driver.Capabilities, name string) bool { return capabilities(c)[name] }

// capabilities by their names.
func capabilities(c driver.Capabilities) map[string]bool {
	return map[string]bool{
		"OwnAddress": c.OwnAddress, "Isolation": c.Isolation, "MemoryLimit": c.MemoryLimit, "CPUShare": c.CPUShare,
		"CPUCap": c.CPUCap, "GPU": c.GPU, "Survives": c.Survives, "ConnectWait": c.ConnectWait, "Loopback": c.Loopback,
		"Attach": c.Attach, "AttachReach": c.AttachReach, "AttachApart": c.AttachApart, "Terminal": c.Terminal,
		"Ahead": c.Ahead,
	}
}

// contradiction is a capability that is both lacking and declared, "" if there is none.
func contradiction(lacks []string, c driver.Capabilities) string {
	for _, name := range lacks {
		if declared(c, name) {
			return name
		}
	}
	return ""
}

// world is one driver under test.
type world struct {
	t *testing.T
	f *Factory
	d driver.Driver
	how
}

// checkNothingLeft waits until there is no more of anything than before: the kernel frees some things a little later.
func (w *world) checkNothingLeft(before map[string]int) {
	nothing := func() bool {
		for what, n := range w.f.Count() {
			if n > before[what] {
				return false
			}
		}
		return true
	}
	if !waitFor(nothing) {
		w.t.Errorf("left behind: before %v, after %v", before, w.f.Count())
	}
}

// waitFor asks again until ok or the deadline, for conditions that nobody announces.
func waitFor(ok func() bool) bool {
	for end := time.Now().Add(Deadline); ; {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		<-time.After(5 * time.Millisecond)
	}
}
