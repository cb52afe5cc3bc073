package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"muster/clients"
	"muster/internal/driver"
	"muster/internal/driver/drivertest"
)

// keeperPath is a keeper built from this tree, without cgo, as releases are.
var keeperPath string

func TestMain(m *testing.M) {
	beServer()
	enterRung()
	if keeperPath = os.Getenv(keeperVariable); keeperPath != "" {
		goleak.VerifyTestMain(m)
		return
	}
	dir, err := os.MkdirTemp("", "muster-local-test-")
	if err != nil {
		panic(err)
	}
	keeperPath = filepath.Join(dir, "muster-keeper")
	build := exec.Command("go", "build", "-o", keeperPath, "muster/cmd/muster-keeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the keeper: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// rung makes drivers of one rung over one folder, and knows what they made.
type rung struct {
	name Rung
	dir  string
	ids  *sync.Map // sessions that were opened
}

func newRung(t testing.TB, name Rung) rung {
	t.Helper()
	return rung{name, filepath.Join(t.TempDir(), "sessions"), &sync.Map{}}
}

func (r rung) driver(t testing.TB) recorded {
	t.Helper()
	d, err := New(Config{Dir: r.dir, Keeper: keeperPath, Rung: r.name})
	if err != nil {
		t.Fatal(err)
	}
	return recorded{d, r.ids}
}

// recorded is a driver that notes which sessions were opened: others use this machine as well.
type recorded struct {
	*Driver
	ids *sync.Map
}

func (d recorded) Open(ctx context.Context, spec driver.SessionSpec) (driver.Session, error) {
	d.ids.Store(string(spec.ID), true)
	return d.Driver.Open(ctx, spec)
}

// made reports whether a text names a session of ours.
func (r rung) made(text string) (found bool) {
	r.ids.Range(func(id, _ any) bool {
		found = strings.Contains(text, id.(string))
		return !found
	})
	return found
}

// python is a real interpreter, not a version manager's script.
func python(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Skip("capability python3: there is no python3 on the PATH")
	}
	return strings.TrimSpace(string(out))
}

func TestConformance(t *testing.T) {
	for _, name := range rungs() {
		t.Run(string(name), func(t *testing.T) {
			r := newRung(t, name)
			f := drivertest.Factory{
				New:     func(t *testing.T) driver.Driver { return r.driver(t) },
				Express: drivertest.Python(python(t)),
				Ahead:   drivertest.PythonAhead(python(t)),
				Restart: func(t *testing.T, d driver.Driver) driver.Driver {
					if err := d.Close(); err != nil {
						t.Error(err)
					}
					return r.driver(t)
				},
				Steps:  steps(name),
				FailAt: func(t *testing.T, step string) driver.Driver { return r.failing(t, step) },
				Count:  func() map[string]int { return r.count() },
				GPUs:   fakeGPUs(),
			}
			f.Lacks = map[Rung][]string{
				Rootless: {"AttachApart"},
				Plain:    {"OwnAddress", "Isolation", "MemoryLimit", "CPUShare", "CPUCap", "GPU", "ConnectWait", "Loopback", "AttachApart"},
			}[name]
			fork := func(python string) []string { return nil }
			if name != Plain {
				folder, err := clients.PythonDir(t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				source, err := os.ReadFile(filepath.Join(folder, "_muster", "_zygote.py"))
				if err != nil {
					t.Fatal(err)
				}
				fork = func(python string) []string { return drivertest.PythonFork(python, source) }
			}
			f.Fork = fork(python(t))
			f.UID, f.GID = os.Geteuid(), os.Getegid()
			drivertest.Run(t, f)
			if name == Root {
				t.Run("as nobody", func(t *testing.T) {
					f.UID, f.GID, f.Steps = 65534, 65534, nil
					f.Express, f.Ahead = drivertest.Python("/usr/bin/python3"), drivertest.PythonAhead("/usr/bin/python3")
					f.Fork = fork("/usr/bin/python3")
					drivertest.Run(t, f)
				})
			}
		})
	}
}

// fakeGPUs are device nodes that Linux machines have and engines do not get by themselves: what is given and hidden are
// nodes, whatever is behind them.
func fakeGPUs() (gpus []driver.GPU) {
	for _, node := range []string{"/dev/kmsg", "/dev/loop-control", "/dev/fuse", "/dev/kvm", "/dev/vda", "/dev/console"} {
		if _, err := os.Stat(node); err == nil && len(gpus) < 2 {
			gpus = append(gpus, driver.GPU{Index: len(gpus), Nodes: []string{node}})
		}
	}
	return gpus
}

// failures are real ones: what a step is given cannot work. A nil function is a refusal by the step itself.
var failures = map[string]func(a *attempt){
	"spec": nil, "young": nil, "network": nil, "loopback": nil, "name": nil, "cgroup": nil, "limits": nil, "keeper": nil,
	"keeper: namespace": func(a *attempt) { a.request.HasNet = false }, // one descriptor too many
	"keeper: folder":    func(a *attempt) { a.wire.PrivateDir = "/dev/null/folder" },
	"keeper: log":       func(a *attempt) { a.wire.ID = "no/log" },
	"keeper: join":      func(a *attempt) { a.request.Cgroup.V1 = map[string]string{"cpu": "/dev/null/missing"} },

	"sandbox: visible paths":  func(a *attempt) { a.wire.Visible = append(a.wire.Visible, "/tmp") },
	"sandbox: device nodes":   func(a *attempt) { a.wire.DeviceNodes = []string{"/dev/missing"} },
	"sandbox: hidden folders": func(a *attempt) { a.wire.Hidden = append(a.wire.Hidden, "/etc/passwd") },
	"sandbox: /dev":           func(a *attempt) { a.wire.ShmBytes = -1 },
	"sandbox: files":          func(a *attempt) { a.wire.Files = map[string][]byte{"no/folder": nil} },
	"sandbox: full disk":      func(a *attempt) { a.wire.Files = map[string][]byte{"large": make([]byte, 65<<20)} },
	"sandbox: covers":         func(a *attempt) { a.wire.Covers = map[string][]byte{"/etc": nil} },
	"sandbox: hostname":       func(a *attempt) { a.wire.Hostname = strings.Repeat("x", 100) },

	"init: ssh port":       func(a *attempt) { a.wire.SSH.Port = -1 },
	"init: files":          func(a *attempt) { a.wire.Files = map[string][]byte{"no/folder": nil} },
	"init: working folder": func(a *attempt) { a.wire.Dir = "/missing" },
	"init: interpreter":    func(a *attempt) { a.wire.Argv = []string{"/missing"} },
	"init: not executable": func(a *attempt) { a.wire.Argv = []string{"/etc/passwd"} },
	"init: environment":    func(a *attempt) { a.wire.Env = append(a.wire.Env, "BIG="+strings.Repeat("x", 200_000)) },
}

// steps are those that a rung has.
func steps(name Rung) []string {
	all := []string{"spec", "keeper", "keeper: folder", "keeper: log", "init: files", "init: working folder",
		"init: interpreter", "init: not executable", "init: environment"}
	if name == Plain {
		return all
	}
	for step := range failures {
		if strings.HasPrefix(step, "sandbox: ") {
			all = append(all, step)
		}
	}
	return append(all, "init: ssh port", "young", "network", "loopback", "name", "cgroup", "limits", "keeper: namespace", "keeper: join")
}

// failing makes a driver in which the engine named "fails" fails at a step.
func (r rung) failing(t *testing.T, step string) driver.Driver {
	change, known := failures[step]
	if !known {
		t.Fatalf("unknown step %s", step)
	}
	d := r.driver(t)
	d.Driver.fail = func(at string, a *attempt) error {
		if a.spec.Name != "fails" {
			return nil
		}
		if change == nil && at == step {
			return errors.New("injected")
		}
		// What a message says is changed last, what the spec says before it is written.
		if last := strings.HasSuffix(step, "join") || strings.HasSuffix(step, "namespace"); change != nil &&
			(last && at == "keeper" || !last && at == "spec") {
			change(a)
		}
		return nil
	}
	return d
}

// count tells how much there is of what a driver makes.
func (r rung) count() map[string]int {
	n := map[string]int{"goroutines": runtime.NumGoroutine()}
	fds, _ := os.ReadDir("/proc/self/fd")
	n["descriptors"] = len(fds)
	n["processes"], n["namespaces"] = r.processes()
	for _, pattern := range []string{"/sys/fs/cgroup/*/muster/*", "/sys/fs/cgroup/muster/*", "/sys/fs/cgroup/*/*/muster/*"} {
		groups, _ := filepath.Glob(pattern)
		for _, g := range groups {
			if r.made(filepath.Base(g)) {
				n["cgroups"]++
			}
		}
	}
	links, _ := filepath.Glob("/sys/class/net/mu*")
	n["links"] = len(links)
	routes, _ := os.ReadFile("/proc/net/route")
	n["routes"] = strings.Count(string(routes), "\n")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	n["mounts"] = strings.Count(string(mounts), "\n")
	filepath.Walk(r.dir, func(path string, _ os.FileInfo, err error) error {
		if err == nil && path != r.dir {
			n["files"]++
		}
		return nil
	})
	return n
}

// processes counts keepers, inits and engines that live, wherever they went, and the network namespaces that they or this
// process hold, by being in them or by a descriptor. A keeper that this process let go of is a zombie in the end, and no
// process any more. One that has just exec'ed has no command line for a moment, as a zombie has none, and is a process.
func (r rung) processes() (live, namespaces int) {
	held := map[string]bool{}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		if status, _ := os.ReadFile(p + "/status"); bytes.Contains(status, []byte("\nState:\tZ")) {
			continue
		}
		cmdline, _ := os.ReadFile(p + "/cmdline")
		exe, _ := os.Readlink(p + "/exe") // an init may not be looked at
		groups, _ := os.ReadFile(p + "/cgroup")
		switch {
		case exe == keeperPath, strings.Contains(string(cmdline), r.dir), r.made(string(groups)):
			live++
		case p != fmt.Sprintf("/proc/%d", os.Getpid()):
			continue
		}
		links, _ := filepath.Glob(p + "/fd/*")
		for _, l := range append(links, p+"/ns/net") {
			var st unix.Stat_t
			if unix.Stat(l, &st) == nil && isNetNS(l) {
				held[fmt.Sprint(st.Ino)] = true
			}
		}
	}
	return live, len(held)
}

func isNetNS(link string) bool {
	to, err := os.Readlink(link)
	return err == nil && strings.HasPrefix(to, "net:[")
}
