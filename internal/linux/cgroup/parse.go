package cgroup

import (
	"fmt"
	"path/filepath"
	"strings"
)

// mount is one mounted hierarchy.
type mount struct {
	version     int
	controllers []string // of version 1
	root        string   // the group that is seen at dir
	dir         string
}

// parseMounts reads the hierarchies at or below root from a mountinfo file. Lines that are not understood are passed over.
func parseMounts(text, root string) []mount {
	var mounts []mount
	for line := range strings.Lines(text) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		left, right, ok := strings.Cut(line, " - ")
		fields, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 6 || len(tail) < 1 {
			continue
		}
		m := mount{root: unescape(fields[3]), dir: unescape(fields[4])}
		if m.dir != root && !strings.HasPrefix(m.dir, strings.TrimSuffix(root, "/")+"/") {
			continue
		}
		switch tail[0] {
		case "cgroup2":
			m.version = 2
		case "cgroup":
			m.version = 1
			if len(tail) < 3 {
				continue
			}
			m.controllers = strings.Split(tail[2], ",")
		default:
			continue
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// unescape undoes the octal escapes of mountinfo: space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// parseOwn reads /proc/self/cgroup: the process's group for each controller of version 1, and under "" for version 2.
func parseOwn(text string) map[string]string {
	own := map[string]string{}
	for line := range strings.Lines(text) {
		// 4:cpu,cpuacct:/user.slice
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			own[c] = parts[2]
		}
	}
	return own
}

// below returns the folder of a group, given as /proc/self/cgroup gives it.
func (m mount) below(group string) (string, error) {
	if group == "" {
		return "", fmt.Errorf("this process is in no group of %s", m.dir)
	}
	rest := group
	if m.root != "/" { // a container that sees only its own part of the hierarchy
		r, ok := strings.CutPrefix(group, m.root)
		if !ok || r != "" && r[0] != '/' {
			return "", fmt.Errorf("the own group %s is outside of what is mounted at %s", group, m.dir)
		}
		rest = r
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == ".." {
			return "", fmt.Errorf("the own group %s is outside of what is mounted at %s", group, m.dir)
		}
	}
	return filepath.Join(m.dir, rest), nil
}
