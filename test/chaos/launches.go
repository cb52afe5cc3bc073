package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// outstanding workers at a time, of those that are launched one after the other.
const outstanding = 8

// memories are how many bytes of its own memory a process may have more for each worker that has ended, and for whatever else moves:
// a collected heap is as large as it was before for a while.
var memories = []struct {
	name        string
	each, fixed float64
}{
	{"server", keptInServer, 6e6},
	{"keeper", keptInKeeper, 2e6},
}

// launches launches workers one after the other and then many at once, in one session, and is red if the machine holds more afterwards
// than before, or a process's memory grows by more than what it keeps of each worker.
func launches(o options) (report, error) {
	c, err := newChaos(o)
	if err != nil {
		return report{}, err
	}
	w := c.world
	w.env = append(w.env, "MUSTER_AHEAD=on", fmt.Sprintf("CHAOS_ROW=%d", o.row), fmt.Sprintf("CHAOS_AT_ONCE=%d", o.workers),
		fmt.Sprintf("CHAOS_OUTSTANDING=%d", outstanding))
	if err := c.operator.up("--memory-capacity", fmt.Sprint(max(8, o.workers/10))); err != nil {
		return report{}, err
	}
	s, err := c.newLauncher()
	if err != nil {
		return report{}, err
	}
	c.watchLaunches(s)
	s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		c.violate("the session that launches: %v: %s", err, s.last)
	}
	c.stop(syscall.SIGTERM)
	var left []string
	if !until(func() bool { left = c.left(); return len(left) == 0 }) {
		for _, l := range left {
			c.violate("left: %s", l)
		}
	}
	c.verdict()
	if len(w.violations) > 0 {
		w.o.keep = true
	}
	return report{violations: w.violations}, w.close()
}

// launcher is the session, which says where it stands and waits.
type launcher struct {
	c    *chaos
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	last string // lines that it said
}

func (c *chaos) newLauncher() (*launcher, error) {
	l := &launcher{c: c, cmd: c.cmd("run", "launches.py")}
	var err error
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.cmd.Stderr = l.cmd.Stdout
	l.out = bufio.NewScanner(out)
	return l, l.cmd.Start()
}

// stands reads on until the session says where it stands; with false it has ended.
func (l *launcher) stands() (mark string, ok bool) {
	for l.out.Scan() {
		line := l.out.Text()
		if mark, ok := strings.CutPrefix(line, "STANDS "); ok {
			return mark, true
		}
		var n int
		var took float64
		if k, _ := fmt.Sscanf(line, "TOOK %d %f", &n, &took); k == 2 {
			l.took(n, took)
		} else if !strings.HasSuffix(line, "] here") {
			l.last = line
		}
	}
	return "", false
}

// took notes launches that are over: those up to the n-th in a row, or n at once.
func (l *launcher) took(n int, seconds float64) {
	if n == l.c.o.row {
		n -= n / 5
	}
	l.c.launches += n
	l.c.say("%d launches in %.1f s, %.1f a second", n, seconds, float64(n)/seconds)
}

func (l *launcher) goOn() { fmt.Fprintln(l.in) }

// watchLaunches looks at the machine wherever the session stands.
func (c *chaos) watchLaunches(s *launcher) {
	var before holdings
	var memory []map[string]float64
	for _, want := range []string{"before", "row", "row", "at once"} {
		mark, ok := s.stands()
		if !ok || !strings.HasPrefix(mark, want) {
			c.violate("the session that launches stands at %q, not at %q: %s", mark, want, s.last)
			return
		}
		switch want {
		case "before":
			before = c.settled()
			c.say("before: %v", before)
			before["firewall elements"] = 0 // those of young workers, who are not any more in the end
		case "row":
			memory = append(memory, c.ownMemory())
			c.say("after %s: own memory of the server %.2f MB, of the keeper %.2f MB", mark, memory[len(memory)-1]["server"]/1e6, memory[len(memory)-1]["keeper"]/1e6)
		case "at once":
			c.say("%s", mark)
			c.back(before)
		}
		s.goOn()
	}
	c.grew(memory[0], memory[1], c.o.row-c.o.row/5)
}

// settled are the holdings when nothing changes any more: the engines that are to wait do.
func (c *chaos) settled() (now holdings) {
	last, same := "", 0
	for end := time.Now().Add(3 * deadline); same < 10 && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		now = c.holdings()
		if said := now.String(); said == last {
			same++
		} else {
			last, same = said, 0
		}
	}
	return now
}

// back waits until the machine holds what it held.
func (c *chaos) back(before holdings) {
	var now holdings
	var wrong []string
	for end := time.Now().Add(3 * deadline); ; time.Sleep(100 * time.Millisecond) {
		now = c.holdings()
		if wrong = now.backTo(before); len(wrong) == 0 || time.Now().After(end) {
			break
		}
	}
	c.say("after:  %v", now)
	for _, text := range wrong {
		c.violate("held after %d launches: %s", c.launches, text)
	}
}

// ownMemory is what only the server and only the keeper have: the least of some looks, as collectors come and go.
func (c *chaos) ownMemory() map[string]float64 {
	pids := map[string]int{"server": c.operator.pid()}
	for _, p := range c.processes() {
		if p.keeper {
			pids["keeper"] = p.pid
		}
	}
	least := map[string]float64{}
	for i := range 10 {
		for name, pid := range pids {
			if now := privateBytes(pid); i == 0 || now < least[name] {
				least[name] = now
			}
		}
		time.Sleep(300 * time.Millisecond)
	}
	return least
}

func privateBytes(pid int) (bytes float64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for _, l := range splitLines(string(text)) {
		var kb float64
		if n, _ := fmt.Sscanf(l, "Private_Dirty: %f kB", &kb); n == 1 {
			bytes += kb * 1024
		}
	}
	return bytes
}

// grew compares memory before and after a number of launches.
func (c *chaos) grew(before, after map[string]float64, n int) {
	for _, m := range memories {
		growth, limit := after[m.name]-before[m.name], m.each*float64(n)+m.fixed
		c.say("%s memory: %.0f bytes more for each of %d workers that have ended, %.2f MB together; at most %.2f MB may be",
			m.name, growth/float64(n), n, growth/1e6, limit/1e6)
		if after[m.name] == 0 {
			c.violate("the memory of the %s cannot be seen", m.name)
		}
		if growth > limit {
			c.violate("the %s's memory grew by %.2f MB with %d launches", m.name, growth/1e6, n)
		}
	}
}
