package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits are what a group may use. A zero means no limit, or for the weight that of one core.
type Limits struct {
	CPUWeight   float64 // cores: the share when CPUs are scarce
	CPUCap      float64 // cores: never more, even on an idle machine
	CPUSet      []int   // CPUs to run on; with version 1 the group must have been made with the extra cpuset
	MemoryBytes int64   // swap included
	Pids        int     // processes and threads
}

const period = 100_000 // µs over which a cap is counted: the kernel's default

// Limit sets all limits, raising or lowering what was set before. A limit whose controller is not there is an error; the
// absence of a limit is not.
func (g *Group) Limit(l Limits) error {
	return errors.Join(g.limitCPU(l), g.limitCPUSet(l.CPUSet), g.limitMemory(l.MemoryBytes), g.limitPids(l.Pids))
}

// Change is Limit for a group that has other limits: it sets what is another one now.
func (g *Group) Change(from, to Limits) error {
	var errs []error
	if from.CPUWeight != to.CPUWeight || from.CPUCap != to.CPUCap {
		errs = append(errs, g.limitCPU(to))
	}
	if !slices.Equal(from.CPUSet, to.CPUSet) {
		errs = append(errs, g.limitCPUSet(to.CPUSet))
	}
	if from.MemoryBytes != to.MemoryBytes {
		errs = append(errs, g.limitMemory(to.MemoryBytes))
	}
	if from.Pids != to.Pids {
		errs = append(errs, g.limitPids(to.Pids))
	}
	return errors.Join(errs...)
}

// file finds a controller's file: in version 1 under its old name, otherwise in version 2 under its new one. With ok false
// there is none.
func (g *Group) file(controller, v1, v2 string) (path string, version int, ok bool) {
	if dir := g.paths.V1[controller]; dir != "" {
		return filepath.Join(dir, v1), 1, true
	}
	if g.paths.V2 != "" && v2 != "" {
		path = filepath.Join(g.paths.V2, v2)
		if _, err := os.Stat(path); err == nil {
			return path, 2, true
		}
	}
	return "", 0, false
}

func missing(limit, controller string) error {
	return fmt.Errorf("limit %s: the control groups of this machine offer no %s controller here", limit, controller)
}

func (g *Group) limitCPU(l Limits) error {
	path, version, ok := g.file(CPU, "cpu.shares", "cpu.weight")
	if !ok {
		if l.CPUWeight > 0 || l.CPUCap > 0 {
			return missing("CPU", CPU)
		}
		return nil
	}
	cores := l.CPUWeight
	if cores <= 0 {
		cores = 1
	}
	if version == 1 {
		dir := filepath.Dir(path)
		quota := -1
		if l.CPUCap > 0 {
			quota = quotaOf(l.CPUCap)
		}
		return errors.Join(
			write(path, strconv.Itoa(clamp(1024*cores, 2, 262144))),
			write(filepath.Join(dir, "cpu.cfs_period_us"), strconv.Itoa(period)),
			write(filepath.Join(dir, "cpu.cfs_quota_us"), strconv.Itoa(quota)))
	}
	most := "max"
	if l.CPUCap > 0 {
		most = strconv.Itoa(quotaOf(l.CPUCap))
	}
	return errors.Join(
		write(path, strconv.Itoa(clamp(100*cores, 1, 10000))),
		write(filepath.Join(filepath.Dir(path), "cpu.max"), fmt.Sprintf("%s %d", most, period)))
}

// quotaOf is the CPU time in each period; the kernel takes no less than 1 ms.
func quotaOf(cores float64) int { return clamp(cores*period, 1000, 1<<40) }

func clamp(x, low, high float64) int { return int(math.Round(min(max(x, low), high))) }

func (g *Group) limitCPUSet(cpus []int) error {
	path, version, ok := g.file(CPUSet, "cpuset.cpus", "cpuset.cpus")
	switch {
	case !ok && len(cpus) > 0:
		return missing("the set of CPUs", CPUSet)
	case !ok:
		return nil
	case len(cpus) > 0:
		list := make([]string, len(cpus))
		for i, c := range cpus {
			list[i] = strconv.Itoa(c)
		}
		return write(path, strings.Join(list, ","))
	case version == 1:
		return inheritCPUSet(filepath.Dir(path)) // an empty set would let nobody in
	}
	err := write(path, "\n")         // an empty write would not reach the kernel
	if errors.Is(err, unix.ENOSPC) { // with processes in it a set cannot be taken back, but be what all may use
		all, readErr := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(path)), "cpuset.cpus.effective"))
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		err = write(path, strings.TrimSpace(string(all)))
	}
	return err
}

func (g *Group) limitMemory(bytes int64) error {
	path, version, ok := g.file(Memory, "memory.limit_in_bytes", "memory.max")
	if !ok {
		if bytes > 0 {
			return missing("memory", Memory)
		}
		return nil
	}
	dir := filepath.Dir(path)
	if version == 2 {
		most, swap := "max", "max"
		if bytes > 0 {
			most, swap = strconv.FormatInt(bytes, 10), "0"
		}
		// One process over the limit ends all: half an engine is no use to anybody.
		return errors.Join(
			write(path, most),
			writeIfThere(filepath.Join(dir, "memory.swap.max"), swap),
			writeIfThere(filepath.Join(dir, "memory.oom.group"), "1"))
	}
	value := "-1"
	if bytes > 0 {
		value = strconv.FormatInt(bytes, 10)
	}
	withSwap := filepath.Join(dir, "memory.memsw.limit_in_bytes")
	now, err := readInt(withSwap)
	if err != nil {
		return write(path, value) // a kernel that does not count swap
	}
	// Memory with swap may at no moment be less than memory alone.
	if bytes <= 0 || bytes > now {
		return errors.Join(write(withSwap, value), write(path, value))
	}
	return errors.Join(write(path, value), write(withSwap, value))
}

func (g *Group) limitPids(n int) error {
	path, _, ok := g.file(Pids, "pids.max", "pids.max")
	switch {
	case !ok && n > 0:
		return missing("the number of processes", Pids)
	case !ok:
		return nil
	case n > 0:
		return write(path, strconv.Itoa(n))
	default:
		return write(path, "max")
	}
}

// boundAll leaves the machine an eighth of its process numbers, however many there are in all groups of parent together: a
// number for each process and thread is all that there is of them, and without one nobody can start anything, root neither.
func boundAll(parent string) error {
	path := filepath.Join(parent, "pids.max")
	now, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(now)) != "max" {
		return nil // no such controller here, or bounded already
	}
	all := Numbers()
	return write(path, strconv.Itoa(all-all/8))
}

// Numbers is how many processes and threads the machine can have.
func Numbers() int {
	n, err := readInt("/proc/sys/kernel/pid_max")
	if err != nil || n <= 0 {
		return 32768 // the kernel's default
	}
	return int(n)
}
