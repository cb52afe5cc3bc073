package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What one launch may leave: the server keeps the descriptions of workers that have ended (of the newest 1,000 sessions and
// 100,000 workers), the database their records, a keeper the ends of its session's.
const (
	keptInServer   = 6 << 10
	keptInKeeper   = 2 << 10
	keptInDatabase = 4 << 10
)

// sample is what is seen at one time.
type sample struct {
	at       time.Duration
	launches int
	values   map[string]float64
}

// measures are what is sampled, and how much each may grow over half of the run: a fixed part, and one for each launch.
var measures = []struct {
	name, unit   string
	fixed, grows float64
}{
	{"server memory", "MB", 12, keptInServer / 1e6},
	{"server descriptors", "", 12, 0},
	{"server threads", "", 6, 0},
	{"keeper memory", "MB", 4, keptInKeeper / 1e6},
	{"keeper descriptors", "", 6, 0},
	{"keeper threads", "", 4, 0},
	{"database", "MB", 4, keptInDatabase / 1e6}, // 4: what is written ahead
	{"control groups", "", 8, 0},
	{"logs", "MB", logsLimit, 0},
}

// logsLimit is what the project allows its logs, in MB.
const logsLimit = 20

// soak lets sessions begin and end, and workers in one that stays, and is red if anything grows that must not. Threads stand for
// goroutines, which the program shows nobody: each that blocks in the kernel has one.
func soak(o options) (report, error) {
	c, err := newChaos(o)
	if err != nil {
		return report{}, err
	}
	w := c.world
	settings := fmt.Sprintf("[logs]\nsize = %v\n", logsLimit/1000.0)
	if err := os.WriteFile(filepath.Join(w.project, "muster.toml"), []byte(settings), 0o600); err != nil {
		return report{}, err
	}
	if err := c.operator.up(); err != nil {
		return report{}, err
	}
	c.soakFor(o.length)
	c.stop(syscall.SIGTERM)
	for _, l := range c.left() {
		c.violate("left: %s", l)
	}
	c.verdict()
	if len(w.violations) > 0 {
		w.o.keep = true
	}
	return report{violations: w.violations}, w.close()
}

func (c *chaos) soakFor(length time.Duration) {
	steady := c.cmd("run", "--no-stdin", "steady.py")
	if err := steady.Start(); err != nil {
		c.violate("%v", err)
		return
	}
	until(func() bool { _, err := os.Stat(filepath.Join(c.project, "rounds")); return err == nil })
	stop, ended := make(chan struct{}), make(chan int, 1)
	go func() { ended <- c.rounds(stop) }()
	var all []sample
	every := min(time.Minute, length/20)
	c.soakHead()
	from := time.Now()
	for next := every; next <= length; next += every {
		time.Sleep(time.Until(from.Add(next)))
		all = append(all, c.sample(time.Since(from)))
	}
	close(stop)
	c.say("%d sessions", <-ended)
	os.WriteFile(filepath.Join(c.project, "finish"), nil, 0o600)
	if err := steady.Wait(); err != nil {
		c.violate("the session that stays: %v", err)
	}
	c.trends(all[len(all)/2:])
}

// rounds runs one session after the other by the command.
func (c *chaos) rounds(stop <-chan struct{}) (n int) {
	for ; ; n++ {
		select {
		case <-stop:
			return n
		default:
		}
		if said, err := c.cmd("run", "--no-stdin", "round.py").CombinedOutput(); err != nil {
			c.violate("round %d: %v: %s", n, err, said)
			return n
		}
		c.mu.Lock()
		c.launches += 5
		c.mu.Unlock()
	}
}

func (c *chaos) soakHead() {
	var names []string
	for _, m := range measures {
		names = append(names, m.name)
	}
	c.say("minutes, launches, %s", strings.Join(names, ", "))
}

func (c *chaos) sample(at time.Duration) sample {
	c.mu.Lock()
	s := sample{at: at, launches: c.launches, values: map[string]float64{}}
	c.mu.Unlock()
	if info, err := os.Stat(filepath.Join(c.project, "rounds")); err == nil {
		s.launches += 2 * int(info.Size())
	}
	var keeper proc
	ps := c.processes()
	c.noteNetworks(ps)
	for _, p := range ps {
		if p.keeper && (keeper.pid == 0 || p.start < keeper.start) { // the oldest is the one that stays
			keeper = p
		}
	}
	for name, pid := range map[string]int{"server": c.operator.pid(), "keeper": keeper.pid} {
		s.values[name+" memory"] = statusOf(pid, "VmRSS") / 1e3
		s.values[name+" threads"] = statusOf(pid, "Threads")
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		s.values[name+" descriptors"] = float64(len(fds))
	}
	filepath.WalkDir(c.state, func(path string, d fs.DirEntry, err error) error {
		if info, infoErr := d.Info(); err == nil && infoErr == nil && !d.IsDir() {
			switch {
			case strings.HasPrefix(d.Name(), "muster.db"):
				s.values["database"] += float64(info.Size()) / 1e6
			case strings.Contains(path, "/console/"):
				s.values["logs"] += float64(info.Size()) / 1e6
			}
		}
		return nil
	})
	s.values["control groups"] = float64(c.groups())
	line := fmt.Sprintf("%5.1f %6d", at.Minutes(), s.launches)
	for _, m := range measures {
		line += fmt.Sprintf("  %6.1f", s.values[m.name])
	}
	c.say("%s", line)
	return s
}

// statusOf reads a number of a process's status.
func statusOf(pid int, key string) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, l := range splitLines(string(b)) {
		if rest, ok := strings.CutPrefix(l, key+":"); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n
		}
	}
	return 0
}

// groups counts the control groups of this run's engines.
func (c *chaos) groups() (n int) {
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if m := group.FindStringSubmatch(path); err == nil && d.IsDir() && m != nil && c.ours(m[1]) {
			n++
		}
		return nil
	})
	return n
}

// trends tells what grew by more than it may.
func (c *chaos) trends(half []sample) {
	if len(half) < 2 {
		return
	}
	first, last := half[0], half[len(half)-1]
	for _, m := range measures {
		var x, y []float64
		for _, s := range half {
			x, y = append(x, s.at.Minutes()), append(y, s.values[m.name])
		}
		growth := slope(x, y) * (last.at - first.at).Minutes()
		limit := m.fixed + m.grows*float64(last.launches-first.launches)
		c.say("%-20s grew by %8.2f %s in the last %.1f minutes, by at most %.2f it may", m.name, growth, m.unit, (last.at - first.at).Minutes(), limit)
		if growth > limit {
			c.violate("%s grew by %.2f %s in %.1f minutes and %d launches", m.name, growth, m.unit, (last.at - first.at).Minutes(), last.launches-first.launches)
		}
	}
}

// slope is that of the line through the points that has the least squares.
func slope(x, y []float64) float64 {
	n := float64(len(x))
	var sx, sy, sxx, sxy float64
	for i := range x {
		sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
