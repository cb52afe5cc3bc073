package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// left counts what engines could leave on the machine, without any code of ours: processes by name, network namespaces,
// cgroups, links, routes, mounts, firewall tables, files of the world.
type left map[string]int

func (w *world) count() left {
	w.t.Helper()
	l := left{}
	spaces := map[string]bool{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		comm, err := os.ReadFile(d + "/comm")
		if err != nil {
			continue
		}
		cmdline, _ := os.ReadFile(d + "/cmdline")
		if stat, _ := os.ReadFile(d + "/stat"); bytes.Contains(stat, []byte(") Z 1 ")) {
			continue // it has ended, and is the machine's first process's to reap
		}
		if bytes.Contains(comm, []byte("muster")) || bytes.Contains(cmdline, []byte(w.root)) || bytes.Contains(cmdline, []byte("/_muster/_runner.py")) {
			l["processes"]++
		}
		for _, ns := range []string{"net", "pid", "mnt", "ipc", "uts"} {
			if s, err := os.Readlink(d + "/ns/" + ns); err == nil {
				spaces[s] = true
			}
		}
		fds, _ := filepath.Glob(d + "/fd/*")
		for _, fd := range fds {
			if s, err := os.Readlink(fd); err == nil && strings.HasPrefix(s, "net:[") {
				spaces[s] = true
			}
		}
	}
	l["namespaces"] = len(spaces)
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "/muster") {
			l["cgroups"]++
		}
		return nil
	})
	links, _ := os.ReadDir("/sys/class/net")
	l["links"] = len(links)
	routes, _ := os.ReadFile("/proc/net/route")
	l["routes"] = bytes.Count(routes, []byte("\n"))
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	l["mounts"] = bytes.Count(mounts, []byte("\n")) - bytes.Count(mounts, []byte(" /run/netns ")) // that is ip's, from its first network on
	if out, err := exec.Command("nft", "list", "ruleset").Output(); err == nil {
		l["nft lines"] = bytes.Count(out, []byte("\n"))
	}
	forward, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	l["ip_forward"] = int(forward[0] - '0')
	for _, dir := range []string{"run", "state"} {
		filepath.WalkDir(filepath.Join(w.root, dir), func(path string, d os.DirEntry, err error) error {
			records := strings.HasPrefix(filepath.Base(path), "muster.db") || strings.HasPrefix(filepath.Base(path), "audit.") // which stay, as consoles do
			if err == nil && path != filepath.Join(w.root, dir) && !records {
				l["files in "+dir]++
			}
			return nil
		})
	}
	return l
}

func (l left) String() string {
	var keys []string
	for k := range l {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s %d  ", k, l[k])
	}
	return b.String()
}

// same compares ignoring zero entries.
func (l left) same(other left) bool {
	for k, v := range l {
		if other[k] != v {
			return false
		}
	}
	for k, v := range other {
		if l[k] != v {
			return false
		}
	}
	return true
}

// nothingLeft waits until everything counted is as it was before; the kernel ends links and namespaces a moment later.
func (w *world) nothingLeft(before left) {
	w.t.Helper()
	w.awaitCount("nothing left", before, before.same)
}

func (w *world) awaitCount(what string, before left, right func(now left) bool) {
	w.t.Helper()
	var now left
	defer func() {
		if w.t.Failed() {
			w.t.Logf("before: %v\nnow:    %v", before, now)
		}
	}()
	took := until(w.t, what, func() bool {
		now = w.count()
		return right(now)
	})
	w.t.Logf("%s after %v: %v", what, took.Round(1e6), now)
}

// leavesNothing holds every test to it that it leaves the machine as it was, so that the next one's count begins there.
// Files are the world's own, and go with its folder.
func (w *world) leavesNothing() {
	before := w.count()
	w.t.Cleanup(func() { w.awaitCount("the machine as before the test", before, before.covers) })
}

// covers reports whether the machine has nothing now that it had not then. Less is what others of it have ended.
func (l left) covers(now left) bool {
	for k, n := range now {
		if n > l[k] && !strings.HasPrefix(k, "files in ") {
			return false
		}
	}
	return true
}

func TestCountSeesWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	sleeper := exec.Command("bash", "-c", "exec -a "+w.root+"/planted sleep 1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the planted process is seen", func() bool { return w.count()["processes"] == before["processes"]+1 })
	sleeper.Process.Kill()
	sleeper.Wait()
	os.WriteFile(filepath.Join(w.root, "state", "planted"), nil, 0o600)
	if now := w.count(); before.same(now) {
		t.Errorf("a planted file is not seen: %v", now)
	}
}
