package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a machine in a folder: ROOT in its texts stands for where control groups are mounted.
type machine struct {
	name      string
	mountinfo string
	cgroup    string
	files     map[string]string // below ROOT; an empty folder where the name ends in a slash
	mode      string
	dirs      map[string]string // usable controllers and their folders below ROOT
	reasons   map[string]string // parts of reasons of the others
}

const root2 = "cpuset cpu io memory hugetlb pids rdma misc\n"

var machines = []machine{{
	name: "v1, each controller by itself, in a group for memory only",
	mountinfo: `31 23 0:28 / ROOT rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / ROOT/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / ROOT/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / ROOT/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / ROOT/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / ROOT/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / ROOT/systemd rw,relatime - cgroup cgroup rw,name=systemd
`,
	cgroup: "9:name=systemd:/\n8:pids:/\n4:memory:/process/1:2\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n",
	files:  map[string]string{"cpu/": "", "cpuacct/": "", "cpuset/": "", "memory/process/1:2/": "", "pids/": ""},
	mode:   V1,
	dirs: map[string]string{
		CPU: "cpu", CPUAcct: "cpuacct", CPUSet: "cpuset", Memory: "memory/process/1:2", Pids: "pids",
	},
	reasons: map[string]string{Devices: "no such controller"},
}, {
	name: "hybrid, as systemd mounts it: controllers together, version 2 for systemd alone",
	mountinfo: `30 22 0:26 / ROOT ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
31 30 0:27 / ROOT/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / ROOT/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
36 30 0:32 / ROOT/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
37 30 0:33 / ROOT/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory
38 30 0:34 / ROOT/pids rw,nosuid,nodev,noexec,relatime shared:17 - cgroup cgroup rw,pids
39 30 0:35 / ROOT/devices rw,nosuid,nodev,noexec,relatime shared:18 - cgroup cgroup rw,devices
`,
	cgroup: "7:devices:/user.slice\n6:pids:/user.slice/user-0.slice\n5:memory:/user.slice\n4:cpu,cpuacct:/user.slice\n" +
		"1:name=systemd:/user.slice/user-0.slice/session-1.scope\n0::/user.slice/user-0.slice/session-1.scope\n",
	files: map[string]string{
		"cpu,cpuacct/user.slice/": "", "memory/user.slice/": "", "pids/user.slice/user-0.slice/": "",
		"devices/user.slice/": "", "unified/user.slice/user-0.slice/session-1.scope/cgroup.controllers": "",
	},
	mode: Hybrid,
	dirs: map[string]string{
		CPU: "cpu,cpuacct/user.slice", CPUAcct: "cpu,cpuacct/user.slice", Memory: "memory/user.slice",
		Pids: "pids/user.slice/user-0.slice", Devices: "devices/user.slice",
	},
	reasons: map[string]string{CPUSet: "no right to hand controllers on"},
}, {
	name: "v1 in a container that sees only its own part, memory mounted by mistake from elsewhere",
	mountinfo: `31 23 0:28 /docker/abc ROOT/cpu ro,relatime - cgroup cgroup rw,cpu
33 31 0:32 /docker/other ROOT/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:36 /.. ROOT/pids rw,relatime - cgroup cgroup rw,pids
`,
	cgroup:  "3:pids:/../../x\n2:memory:/docker/abc\n1:cpu:/docker/abc\n",
	files:   map[string]string{"cpu/": "", "memory/": ""},
	mode:    V1,
	dirs:    map[string]string{CPU: "cpu"},
	reasons: map[string]string{Memory: "own group /docker/abc is outside", Pids: "outside of what is mounted"},
}, {
	name:      "v2, the root group",
	mountinfo: "30 22 0:26 / ROOT rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
	cgroup:    "0::/\n",
	files:     map[string]string{"cgroup.controllers": root2, "cgroup.subtree_control": "", "cgroup.procs": "1\n2\n"},
	mode:      V2,
	dirs:      map[string]string{CPU: "", CPUAcct: "", Memory: "", Pids: "", CPUSet: ""},
	reasons:   map[string]string{Devices: "version 2 has no such controller"},
}, {
	name:      "v2, a systemd service with Delegate=yes and its process alone",
	mountinfo: "30 22 0:26 / ROOT rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
	cgroup:    "0::/system.slice/muster.service\n",
	files: map[string]string{
		"system.slice/muster.service/cgroup.controllers":     "cpu memory pids\n",
		"system.slice/muster.service/cgroup.subtree_control": "",
		"system.slice/muster.service/cgroup.type":            "domain\n",
		"system.slice/muster.service/cgroup.procs":           "SELF\n",
	},
	mode: V2,
	dirs: map[string]string{
		CPU: "system.slice/muster.service", CPUAcct: "system.slice/muster.service",
		Memory: "system.slice/muster.service", Pids: "system.slice/muster.service",
	},
	reasons: map[string]string{CPUSet: "does not offer it"},
}, {
	name:      "v2, the same service after Prepare: the process is in the leaf",
	mountinfo: "30 22 0:26 / ROOT rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
	cgroup:    "0::/system.slice/muster.service/muster-server\n",
	files: map[string]string{
		"system.slice/muster.service/cgroup.controllers":         "cpu memory pids\n",
		"system.slice/muster.service/cgroup.subtree_control":     "cpu memory pids\n",
		"system.slice/muster.service/cgroup.type":                "domain\n",
		"system.slice/muster.service/cgroup.procs":               "",
		"system.slice/muster.service/muster-server/cgroup.procs": "SELF\n",
	},
	mode: V2,
	dirs: map[string]string{
		CPU: "system.slice/muster.service", CPUAcct: "system.slice/muster.service",
		Memory: "system.slice/muster.service", Pids: "system.slice/muster.service",
	},
}, {
	name:      "v2, a root shell: its scope holds other processes, the slice above it none",
	mountinfo: "30 22 0:26 / ROOT rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
	cgroup:    "0::/user.slice/user-0.slice/session-1.scope\n",
	files: map[string]string{
		"user.slice/user-0.slice/session-1.scope/cgroup.controllers":     "memory pids\n",
		"user.slice/user-0.slice/session-1.scope/cgroup.subtree_control": "",
		"user.slice/user-0.slice/session-1.scope/cgroup.type":            "domain\n",
		"user.slice/user-0.slice/session-1.scope/cgroup.procs":           "1\nSELF\n",
		"user.slice/user-0.slice/cgroup.controllers":                     "cpu memory pids\n",
		"user.slice/user-0.slice/cgroup.subtree_control":                 "memory pids\n",
		"user.slice/user-0.slice/cgroup.type":                            "domain\n",
		"user.slice/user-0.slice/cgroup.procs":                           "",
	},
	mode: V2,
	dirs: map[string]string{
		CPU: "user.slice/user-0.slice", CPUAcct: "user.slice/user-0.slice",
		Memory: "user.slice/user-0.slice", Pids: "user.slice/user-0.slice",
	},
}, {
	name:      "v2, root's service without Delegate=yes, alone in its group: the slice above it",
	mountinfo: "30 22 0:26 / ROOT rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
	cgroup:    "0::/system.slice/muster.service\n",
	files: map[string]string{
		"system.slice/muster.service/cgroup.controllers":     "cpu memory pids\n",
		"system.slice/muster.service/cgroup.subtree_control": "",
		"system.slice/muster.service/cgroup.type":            "domain\n",
		"system.slice/muster.service/cgroup.procs":           "SELF\n",
		"system.slice/cgroup.controllers":                    "cpu memory pids\n",
		"system.slice/cgroup.subtree_control":                "memory pids\n",
		"system.slice/cgroup.type":                           "domain\n",
		"system.slice/cgroup.procs":                          "",
	},
	mode:    V2,
	dirs:    map[string]string{CPU: "system.slice", CPUAcct: "system.slice", Memory: "system.slice", Pids: "system.slice"},
	reasons: map[string]string{CPUSet: "does not offer it"},
}, {
	name:      "nothing is mounted",
	mountinfo: "22 1 8:1 / / rw - ext4 /dev/sda1 rw\nrubbish\n",
	mode:      None,
	reasons:   map[string]string{CPU: "no such controller", Memory: "no such controller"},
}}

// build makes the machine's files and returns ROOT and the stand-in for /proc/self.
func (m machine) build(t *testing.T) (root, proc string) {
	t.Helper()
	root, proc = t.TempDir(), t.TempDir()
	for path, text := range m.files {
		full := filepath.Join(root, path)
		dir := filepath.Dir(full)
		if strings.HasSuffix(path, "/") {
			dir = full
		}
		must(t, os.MkdirAll(dir, 0o755))
		if dir != full {
			text = strings.ReplaceAll(text, "SELF", fmt.Sprint(os.Getpid()))
			must(t, os.WriteFile(full, []byte(text), 0o644))
		}
	}
	must(t, os.WriteFile(filepath.Join(proc, "mountinfo"), []byte(strings.ReplaceAll(m.mountinfo, "ROOT", root)), 0o644))
	must(t, os.WriteFile(filepath.Join(proc, "cgroup"), []byte(m.cgroup), 0o644))
	return root, proc
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDetect(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			root, proc := m.build(t)
			tree, err := Detect(root, proc)
			must(t, err)
			if tree.Mode() != m.mode {
				t.Errorf("mode %s, want %s", tree.Mode(), m.mode)
			}
			for _, s := range tree.Supports() {
				want, usable := m.dirs[s.Controller]
				if s.Usable != usable || usable != tree.Has(s.Controller) {
					t.Errorf("%+v, want usable %v", s, usable)
				}
				if usable && (s.Dir != filepath.Join(root, want) || s.Reason != "") {
					t.Errorf("%+v, want %s", s, want)
				}
				if !usable && (s.Reason == "" || !strings.Contains(s.Reason, m.reasons[s.Controller])) {
					t.Errorf("%s: reason %q, want %q", s.Controller, s.Reason, m.reasons[s.Controller])
				}
			}
			left, err := filepath.Glob(filepath.Join(root, "*", "muster-trial-*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// A folder in which we may not write is told with what to do about it.
func TestDetectWithoutRights(t *testing.T) {
	m := machines[4]
	root, proc := m.build(t)
	// Neither root's rights nor a folder's mode stop a mkdir on a path through a file.
	dir := filepath.Join(root, "system.slice/muster.service")
	must(t, os.RemoveAll(dir))
	must(t, os.WriteFile(dir, nil, 0o644))
	must(t, os.RemoveAll(filepath.Join(root, "cgroup.subtree_control")))
	tree, err := Detect(root, proc)
	must(t, err)
	s := tree.Supports()[0]
	if s.Usable || !strings.Contains(s.Reason, "Delegate=yes") {
		t.Errorf("%+v", s)
	}
	g, err := tree.New("empty")
	must(t, err)
	if p := g.Paths(); len(p.V1) > 0 || p.V2 != "" {
		t.Errorf("paths %+v", p)
	}
	must(t, g.Limit(Limits{}))
	for limit, l := range map[string]Limits{
		"memory": {MemoryBytes: 1 << 20}, "CPU": {CPUWeight: 1}, "the number": {Pids: 3}, "the set of CPUs": {CPUSet: []int{0}},
	} {
		if err := g.Limit(l); err == nil || !strings.Contains(err.Error(), "limit "+limit) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	must(t, g.JoinThread())
	if fd, err := g.FD(); fd != nil || err != nil {
		t.Errorf("FD = %v, %v", fd, err)
	}
	if s, err := g.Stats(); s != (Stats{}) || err != nil {
		t.Errorf("Stats = %+v, %v", s, err)
	}
	must(t, g.Remove())
}

func TestDetectNeedsProc(t *testing.T) {
	if _, err := Detect("", t.TempDir()); err == nil || !strings.Contains(err.Error(), "mountinfo") {
		t.Errorf("err = %v", err)
	}
}

func TestNames(t *testing.T) {
	tree := &Tree{}
	for _, bad := range []string{"", ".", "..", "a/b", "/", "a\nb", "cgroup.procs", "cpu.shares", "memory", strings.Repeat("a", 201)} {
		if _, err := tree.New(bad); err == nil {
			t.Errorf("New(%q) gave no error", bad)
		}
		if _, err := tree.Open(bad); err == nil {
			t.Errorf("Open(%q) gave no error", bad)
		}
	}
}

func TestMountsOutsideRoot(t *testing.T) {
	text := "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n2 0 0:1 / /sys/fs/cgroup2 rw - cgroup2 c rw\n" +
		"3 0 0:1 / /host/sys/fs/cgroup rw - cgroup2 c rw\n4 0 0:1 / /sys/fs/cgroup/with\\040space rw - cgroup c rw,cpu\n"
	got := parseMounts(text, "/sys/fs/cgroup")
	if len(got) != 2 || got[0].dir != "/sys/fs/cgroup" || got[1].dir != "/sys/fs/cgroup/with space" {
		t.Errorf("mounts %+v", got)
	}
}

// FuzzDetect: whatever the kernel's files say, a group's folder is below a mounted hierarchy.
func FuzzDetect(f *testing.F) {
	for _, m := range machines {
		f.Add(m.mountinfo, m.cgroup)
	}
	f.Fuzz(func(t *testing.T, mountinfo, cgroup string) {
		own := parseOwn(cgroup)
		for _, m := range parseMounts(mountinfo, "ROOT") {
			if m.version != 1 && m.version != 2 || !strings.HasPrefix(m.dir, "ROOT") {
				t.Fatalf("mount %+v", m)
			}
			for _, c := range append(slices.Clone(m.controllers), "", CPU) {
				dir, err := m.below(own[c])
				if err != nil {
					continue
				}
				if rel, err := filepath.Rel(filepath.Clean(m.dir), dir); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
					t.Fatalf("%+v, own group %q: %q", m, own[c], dir)
				}
			}
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill")
	f.Add("usage_usec 17", "usage_usec")
	f.Fuzz(func(t *testing.T, text, key string) {
		if n, ok := parseKey(text, key); !ok && n != 0 && n != 1<<63-1 && n != -1<<63 {
			t.Fatalf("parseKey(%q, %q) = %d, %v", text, key, n, ok)
		}
	})
}
