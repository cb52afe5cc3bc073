package cgroup

import (
	"errors"
	"os"
	"path/filepath"
)

// Stats are what a group has used. A value is 0 where the machine does not count it.
type Stats struct {
	MemoryBytes     int64 // now, page cache included
	MemoryPeakBytes int64 // the most there was
	OOMKills        int64 // processes that the kernel killed at the memory limit
	CPUNanos        int64 // CPU time
	Pids            int64 // processes and threads, now
}

// ErrGone says that a group does not exist (any more).
var ErrGone = errors.New("the control group does not exist")

// Stats reads what the group has used. They stay readable until Remove, also when its processes have ended.
func (g *Group) Stats() (Stats, error) {
	if len(g.dirs()) == 0 {
		return Stats{}, nil
	}
	for _, d := range g.dirs() {
		if _, err := os.Stat(d); err != nil {
			return Stats{}, ErrGone
		}
	}
	s := Stats{
		MemoryBytes: g.count(Memory, "memory.usage_in_bytes", "memory.current"), MemoryPeakBytes: g.MemoryPeakBytes(),
		CPUNanos: g.CPUNanos(), Pids: g.count(Pids, "pids.current", "pids.current"),
	}
	s.OOMKills, _ = g.OOMKills()
	return s, nil
}

// count reads a number; 0 where the machine does not count it, or its kernel is too old for it.
func (g *Group) count(controller, v1, v2 string) int64 {
	path, _, ok := g.file(controller, v1, v2)
	if !ok {
		return 0
	}
	n, _ := readInt(path)
	return n
}

// MemoryPeakBytes is that of Stats.
func (g *Group) MemoryPeakBytes() int64 {
	return g.count(Memory, "memory.max_usage_in_bytes", "memory.peak")
}

// CPUNanos is the CPU time of Stats; 0 where the machine does not count it.
func (g *Group) CPUNanos() int64 {
	if dir := g.paths.V1[CPUAcct]; dir != "" {
		n, _ := readInt(filepath.Join(dir, "cpuacct.usage"))
		return n
	}
	if g.paths.V2 == "" {
		return 0
	}
	micros, _ := readKey(filepath.Join(g.paths.V2, "cpu.stat"), "usage_usec")
	return 1000 * micros
}

// OOMKills is that of Stats. An error: nobody counts them, for want of a memory controller.
func (g *Group) OOMKills() (int64, error) {
	path, _, ok := g.file(Memory, "memory.oom_control", "memory.events")
	if !ok {
		return 0, missing("memory", Memory)
	}
	return readKey(path, "oom_kill")
}
