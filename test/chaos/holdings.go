package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// holdings are what a living server and its one session hold of the machine, by kind. What launches leave on purpose is not counted:
// consoles, and the records.
type holdings map[string]int

// exact are the kinds of which there must be as many as before. Of the others there may be fewer.
var exact = []string{"processes", "control groups", "network namespaces", "mount namespaces", "process namespaces", "links", "firewall elements", "mounts", "sockets", "files"}

// atMost may be fewer afterwards: connections that nobody uses are closed.
var atMost = []string{"server descriptors", "keeper descriptors"}

func (c *chaos) holdings() holdings {
	ps := c.processes()
	c.noteNetworks(ps)
	h := holdings{"processes": len(ps), "control groups": c.groups(), "files": c.unexpectedFiles()}
	for kind, name := range map[string]string{"network": "net", "mount": "mnt", "process": "pid"} {
		h[kind+" namespaces"] = namespacesOf(ps, name)
	}
	for file, what := range map[string]string{"/proc/self/mountinfo": "mounts", "/proc/net/unix": "sockets"} {
		text, _ := os.ReadFile(file)
		for _, l := range splitLines(string(text)) {
			if strings.Contains(l, c.root) {
				h[what]++
			}
		}
	}
	h["server descriptors"] = descriptors(c.operator.pid())
	h["server threads"] = int(statusOf(c.operator.pid(), "Threads"))
	for _, p := range ps {
		if p.keeper {
			h["keeper descriptors"] += descriptors(p.pid)
			h["keeper threads"] += int(statusOf(p.pid, "Threads"))
			h["links"] += bytes.Count(inHub(p.pid, "ip", "-o", "link"), []byte("\n"))
			h["firewall elements"] += bytes.Count(inHub(p.pid, "nft", "list", "ruleset"), []byte(" expires "))
		}
	}
	return h
}

// namespacesOf counts the different namespaces of a kind in which processes are.
func namespacesOf(ps []proc, name string) int {
	seen := map[string]bool{}
	for _, p := range ps {
		if at, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.pid, name)); err == nil {
			seen[at] = true
		}
	}
	return len(seen)
}

func descriptors(pid int) int {
	names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(names)
}

// inHub runs a program in the network that a keeper holds. Nothing is shown where there is no such program.
func inHub(keeper int, program ...string) []byte {
	out, _ := exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/fd/4", keeper)}, program...)...).Output()
	return out
}

// unexpectedFiles counts what lies in the state and runtime folders beside consoles and records.
func (c *chaos) unexpectedFiles() (n int) {
	for _, dir := range []string{c.state, c.runtime} {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			rest, _ := filepath.Rel(dir, path)
			kept := strings.Contains(rest, "/console/") || strings.HasPrefix(rest, "muster.db") || strings.HasPrefix(rest, "audit.")
			if err == nil && !kept {
				n++
			}
			return nil
		})
	}
	return n
}

// backTo tells how far things are from where they were; nothing if they are back.
func (h holdings) backTo(before holdings) (told []string) {
	for _, k := range exact {
		if h[k] != before[k] {
			told = append(told, fmt.Sprintf("%s: %d before, %d now", k, before[k], h[k]))
		}
	}
	for _, k := range atMost {
		if h[k] > before[k] {
			told = append(told, fmt.Sprintf("%s: %d before, %d now", k, before[k], h[k]))
		}
	}
	return told
}

func (h holdings) String() string {
	var said []string
	for _, k := range sorted(h) {
		said = append(said, fmt.Sprintf("%s %d", k, h[k]))
	}
	return strings.Join(said, ", ")
}
