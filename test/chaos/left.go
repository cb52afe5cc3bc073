package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// watch looks for orphans as long as the run lasts: processes of sessions that are over, or without their keeper.
func (c *chaos) watch(stop <-chan struct{}) {
	since := map[string]time.Time{} // seen without a right to be there
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for _, text := range c.orphans(c.processes(), since, time.Now()) {
			c.violate("%s", text)
		}
	}
}

// orphans returns sentences about processes that have had no right to be there for longer than the deadline.
func (c *chaos) orphans(ps []proc, since map[string]time.Time, now time.Time) (told []string) {
	keepers := map[string]bool{}
	for _, p := range ps {
		if p.keeper {
			keepers[p.session] = true
		}
	}
	c.noteNetworks(ps)
	for _, p := range ps {
		over := c.crew.isOver(p.session)
		if !over && (p.keeper || keepers[p.session]) {
			continue
		}
		key := fmt.Sprint(p.pid, " ", p.start)
		first, seen := since[key]
		if !seen {
			since[key] = now
		} else if now.Sub(first) > deadline {
			since[key] = now.Add(1000 * time.Hour) // told once
			told = append(told, fmt.Sprintf("process %d (state %c) of engine %s is left: its session %s is over: %v, its keeper lives: %v",
				p.pid, p.state, p.engine, p.session, over, keepers[p.session]))
		}
	}
	return told
}

func (c *crew) isOver(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.sessions {
		x.mu.Lock()
		over := x.id == id && !x.over.IsZero()
		x.mu.Unlock()
		if over {
			return true
		}
	}
	return false
}

// noteNetworks remembers the network namespaces of this run: they must be gone with the sessions.
func (c *chaos) noteNetworks(ps []proc) {
	for _, p := range ps {
		name := fmt.Sprintf("/proc/%d/ns/net", p.pid)
		if p.keeper {
			name = fmt.Sprintf("/proc/%d/fd/4", p.pid) // the hub's, where it has one
		}
		if at, err := os.Readlink(name); err == nil && strings.HasPrefix(at, "net:[") && at != c.ownNetwork {
			c.networks[at] = true
		}
	}
}

// left returns what this run has left on the machine, when its last server has ended.
func (c *chaos) left() (all []string) {
	for _, p := range c.processes() {
		all = append(all, fmt.Sprintf("process %d of engine %s, session %s", p.pid, p.engine, p.session))
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if m := group.FindStringSubmatch(path); err == nil && d.IsDir() && m != nil && c.ours(m[1]) {
			all = append(all, "control group "+path)
		}
		return nil
	})
	for file, what := range map[string]string{"/proc/self/mountinfo": "mount", "/proc/net/unix": "socket"} {
		text, _ := os.ReadFile(file)
		for _, l := range strings.Split(string(text), "\n") {
			if strings.Contains(l, c.root) && !strings.Contains(l, " "+c.state+" ") {
				all = append(all, what+": "+l)
			}
		}
	}
	return append(append(all, c.leftNetworks()...), c.leftFiles()...)
}

// leftNetworks looks for processes that are in a network of this run, or hold one open. The kernel gives numbers of namespaces again:
// those of other servers on the machine may have got one.
func (c *chaos) leftNetworks() (all []string) {
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			if at, err := os.Readlink(n); err == nil && c.networks[at] && !c.othersProcess(n) {
				all = append(all, fmt.Sprintf("network namespace %s, held by %s", at, n))
			}
		}
	}
	return all
}

// othersProcess reports whether a file of a process's folder in /proc is one of another server's or its engines'.
func (c *chaos) othersProcess(name string) bool {
	dir := filepath.Join("/proc", strings.Split(name, "/")[2])
	comm, _ := os.ReadFile(dir + "/comm")
	cgroup, _ := os.ReadFile(dir + "/cgroup")
	m := group.FindSubmatch(cgroup)
	return m != nil && !c.ours(string(m[1])) || m == nil && strings.HasPrefix(string(comm), "muster")
}

// leftFiles looks where temporary files lie for names of this run's engines, and at what lies in the state folder beside the consoles
// and the records.
func (c *chaos) leftFiles() (all []string) {
	ids := map[string]bool{}
	for id := range c.engines {
		ids[id] = true
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/run", "/dev/shm"} {
		names, _ := os.ReadDir(dir)
		for _, n := range names {
			for _, part := range strings.FieldsFunc(n.Name(), func(r rune) bool { return r == '-' || r == '.' || r == '_' }) {
				if ids[part] {
					all = append(all, "file "+filepath.Join(dir, n.Name()))
				}
			}
		}
	}
	filepath.WalkDir(c.state, func(path string, d fs.DirEntry, err error) error {
		rest, _ := filepath.Rel(c.state, path)
		parts := strings.Split(rest, "/")
		ok := len(parts) <= 2 && (d.IsDir() || strings.HasPrefix(rest, "muster.db") || strings.HasPrefix(rest, "audit.")) ||
			len(parts) >= 3 && slices.Contains([]string{"console", "project"}, parts[2])
		if !ok {
			all = append(all, "file "+path)
		}
		return nil
	})
	return all
}

// records reads what the database says of ends, with another program than the one that wrote it, and checks its integrity.
const readRecords = `
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
found = [r[0] for r in db.execute("PRAGMA integrity_check")] + [list(r) for r in db.execute("PRAGMA foreign_key_check")]
ends = {}
for engine, record in db.execute("SELECT engine, record FROM ends"):
    exit = json.loads(record)["exit"]
    ends[engine] = {"reason": exit["reason"], "code": exit["code"], "at": exit["at"]}
live = db.execute("SELECT count(*) FROM sessions WHERE NOT ended").fetchone()[0]
print(json.dumps({"integrity": found, "ends": ends, "live": live}))
`

type recorded struct {
	Integrity []any
	Ends      map[string]ending
	Live      int
}

func readDatabase(path string) (r recorded, err error) {
	out, err := exec.Command("python3", "-c", readRecords, path).Output()
	if err != nil {
		return r, fmt.Errorf("read the records in %s: %w", path, err)
	}
	return r, json.Unmarshal(out, &r)
}

func (r recorded) whole() error {
	if len(r.Integrity) == 1 && r.Integrity[0] == "ok" {
		return nil
	}
	return fmt.Errorf("the records are damaged: %v", r.Integrity)
}
