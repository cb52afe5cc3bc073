package test

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"muster/internal/linux/sandbox"
)

// The rootless rung: the release binary, run by a user without rights, whom the machine does not even know by name.

const someone = 23456

// userWorld is a world of that user's, with a copy of the binary: nothing in it is out of the user's reach.
func userWorld(t *testing.T) *world {
	t.Helper()
	requireRoot(t)                                            // to become that user
	root, err := os.MkdirTemp("/var/tmp", "muster-rootless-") // engines have a /tmp of their own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { // the next test counts what is on the machine
		until(t, "no process of the user is left", func() bool { return len(processesOf(someone)) == 0 })
	})
	w := &world{t: t, root: root, project: filepath.Join(root, "project")}
	os.Chmod(root, 0o755)
	for _, d := range []string{w.project, filepath.Join(root, "home"), filepath.Join(root, "run"), filepath.Join(root, "state"), filepath.Join(root, "cache")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		os.Chown(d, someone, someone)
	}
	from, err := os.Open(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(root, "muster"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if to.Close(); err != nil {
		t.Fatal(err)
	}
	w.env = []string{
		"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "NO_COLOR=1", "HOME=" + filepath.Join(root, "home"),
		"MUSTER_RUNTIME_DIR=" + filepath.Join(root, "run"), "MUSTER_STATE_DIR=" + filepath.Join(root, "state"),
		"MUSTER_CACHE_DIR=" + filepath.Join(root, "cache"),
	}
	return w
}

// asSomeone prepares a call of muster by that user.
func (w *world) asSomeone(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(w.root, "muster"), args...)
	cmd.Dir, cmd.Env = w.project, w.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: someone, Gid: someone}}
	return cmd
}

// writeShared is write for what that user is to read.
func (w *world) writeShared(name, content string) {
	if err := os.Chmod(w.write(name, content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// nothingOfSomeone waits until that user has no process and no file of a session, which also means: no namespace.
func (w *world) nothingOfSomeone() {
	w.t.Helper()
	until(w.t, "no process of the user is left", func() bool { return len(processesOf(someone)) == 0 })
	for _, dir := range []string{"run", filepath.Join("state", "sessions")} {
		filepath.WalkDir(filepath.Join(w.root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && path != filepath.Join(w.root, dir) {
				w.t.Errorf("left: %s", path)
			}
			return nil
		})
	}
}

// processesOf lists the command lines of a user's processes that are no zombies.
func processesOf(uid int) (all []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		var st syscall.Stat_t
		status, err := os.ReadFile(d + "/status")
		if err != nil || syscall.Stat(d, &st) != nil || !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", uid)) ||
			strings.Contains(string(status), "\nState:\tZ") {
			continue
		}
		cmdline, _ := os.ReadFile(d + "/cmdline")
		all = append(all, string(cmdline))
	}
	return all
}

// requireUserNamespaces skips where an ordinary user cannot have the rung at all.
func (w *world) requireUserNamespaces() {
	w.t.Helper()
	cmd := exec.Command("/usr/bin/unshare", "-U", "-r", "-n", "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: someone, Gid: someone}}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Skipf("capability user namespaces: %v: %s", err, out)
	}
}

const rootlessScript = `
import cdsw, os, socket
code = """
import os, socket
s = socket.create_connection((os.environ["CDSW_MASTER_IP"], 6000))
s.sendall(os.environ["CDSW_IP_ADDRESS"].encode() + b"\\n")
print("worker heard", s.makefile().readline().strip())
l = socket.create_server(("0.0.0.0", 6000))
"""
listener = socket.create_server(("0.0.0.0", 6000))
workers = cdsw.launch_workers(n=2, cpu=0.2, memory=0.2, code=code)
for _ in range(2):
    c, peer = listener.accept()
    said = c.makefile().readline().strip()
    print("master heard", said, "of itself" if said == peer[0] else "of " + peer[0])
    c.sendall(b"welcome\n")
print("failures", cdsw.await_workers(workers, timeout_seconds=60)["failures"])
print("addresses", len({w["ip_address"] for w in cdsw.list_workers()} | {os.environ["CDSW_IP_ADDRESS"]}))
processes = [p for p in os.listdir("/proc") if p.isdigit()]
print("user", os.getuid(), "processes", len(processes))
caps = [l.split()[1] for l in open("/proc/self/status") if l.startswith(("CapPrm", "CapEff", "CapInh", "CapAmb"))]
print("rights", set(caps))
print("second proc", os.listdir("../second"))
`

// mountAround mounts, as some machines do, where the user may not go, and a /proc in a second place, in which engines would see
// the host's processes.
func (w *world) mountAround() {
	w.t.Helper()
	closed, second := filepath.Join(w.root, "closed"), filepath.Join(w.root, "second")
	for dir, fstype := range map[string]string{filepath.Join(closed, "place"): "tmpfs", second: "proc"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := unix.Mount(fstype, dir, fstype, 0, ""); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		w.t.Fatal(err)
	}
}

func TestRootless(t *testing.T) {
	w := userWorld(t)
	w.requireUserNamespaces()
	w.mountAround()
	w.writeShared("session.py", rootlessScript)
	r := w.finish(w.asSomeone("run", "--rung", "rootless", "session.py"), 4*deadline).ok(t)
	r.has(t, "of itself\n", "failures []\n", "addresses 3\n", fmt.Sprintf("user %d processes 2\n", someone), "rights {'0000000000000000'}\n", "second proc []\n")
	if strings.Count(r.out, "worker heard welcome\n") != 2 || strings.Count(r.out, " of itself\n") != 2 {
		t.Errorf("stdout: %s", r.out)
	}
	if strings.Count(r.err, "engines are not limited in processes (") != 1 || strings.Count(r.err, ", memory, CPU: ") != 1 {
		t.Errorf("stderr: %s", r.err)
	}
	w.nothingOfSomeone()
}

// The code comes from stdin, which is not lost when the program begins anew, and by itself it chooses the rung.
func TestRootlessFromStdin(t *testing.T) {
	w := userWorld(t)
	w.requireUserNamespaces()
	cmd := w.asSomeone("run", "-")
	cmd.Stdin = strings.NewReader("import os; print(os.environ['CDSW_IP_ADDRESS'])")
	r := w.finish(cmd, 4*deadline).ok(t)
	if !strings.HasPrefix(r.out, "100.") {
		t.Errorf("stdout: %s", r.out)
	}
	w.nothingOfSomeone()
}

// Sessions outlive their server, and the next one, in the same user namespace, adopts them; so does one that takes over.
func TestRootlessServerKilled(t *testing.T) {
	w := userWorld(t)
	w.requireUserNamespaces()
	w.writeShared("session.py", `
import cdsw, os, time
workers = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="import os, time\nopen('runs', 'w')\nwhile not os.path.exists('go'): time.sleep(0.05)\nprint('worker saw it')")
while not os.path.exists("runs"): time.sleep(0.05)
print("waiting", flush=True)
while not os.path.exists("go"): time.sleep(0.05)
print(cdsw.await_workers(workers, timeout_seconds=60)["failures"])
late = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="print('late worker')")
print(cdsw.await_workers(late, timeout_seconds=60)["failures"])
`)
	up := w.begin(w.asSomeone("up"))
	up.await("the server answers")
	run := w.begin(w.asSomeone("run", "session.py"))
	run.await("waiting\n")
	up.cmd.Process.Kill()
	up.wait()
	second := w.begin(w.asSomeone("up"))
	second.await("adopted 1 session of an earlier server, with 1 worker")
	second.await("the server answers")
	third := w.begin(w.asSomeone("up", "--replace"))
	third.await("adopted 1 session of an earlier server, with 1 worker")
	if code := second.wait(); code != 0 {
		t.Errorf("the replaced server ended with %d: %s", code, second.output())
	}
	w.writeShared("go", "")
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"worker saw it\n", "late worker\n", "[]\n"} {
		if strings.Count(run.output(), want) == 0 {
			t.Errorf("%q is missing: %s", want, run.output())
		}
	}
	third.cmd.Process.Signal(syscall.SIGTERM)
	third.wait()
	until(t, "no process of the user is left", func() bool { return len(processesOf(someone)) == 0 })
}

// Where the machine allows no user namespaces: by itself the plain rung, with one warning that says why and what to do; asked
// for the rung, an error that says the same.
func TestRootlessRefused(t *testing.T) {
	for _, c := range []struct {
		name, why, fix string
		by             func(t *testing.T, w *world, cmd *exec.Cmd)
	}{
		{"no namespaces left", "user.max_user_namespaces=0", "sysctl -w user.max_user_namespaces=", none("user")},
		{"no networks left", "user.max_net_namespaces=0", "sysctl -w user.max_net_namespaces=", none("net")},
		{"covered parts of /proc", "/proc: mount proc on /proc: operation not permitted", "--security-opt systempaths=unconfined", covered},
		{"filter of a container", "user namespaces are refused", "--security-opt seccomp=unconfined", filtered},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := userWorld(t)
			cmd := w.asSomeone("run", "-c", "print('ran')")
			c.by(t, w, cmd)
			r := w.finish(cmd, 4*deadline).ok(t)
			r.has(t, "ran\n", c.why, c.fix)
			if strings.Count(r.err, "\n") != 1 {
				t.Errorf("stderr: %s", r.err)
			}
			cmd = w.asSomeone("run", "--rung", "rootless", "-c", "print('ran')")
			c.by(t, w, cmd)
			r = w.finish(cmd, 4*deadline)
			r.has(t, c.why, c.fix)
			if r.code == 0 || strings.Contains(r.out, "ran") {
				t.Errorf("exit code %d, stdout %q", r.code, r.out)
			}
			w.nothingOfSomeone()
		})
	}
}

// none runs a command in a user namespace, made by root, whose limit on namespaces of a kind is set to none.
func none(kind string) func(t *testing.T, w *world, cmd *exec.Cmd) {
	return func(t *testing.T, w *world, cmd *exec.Cmd) {
		w.requireUserNamespaces()
		script := fmt.Sprintf(`echo 0 > /proc/sys/user/max_%s_namespaces && exec setpriv --reuid %d --regid %[2]d --clear-groups "$@"`, kind, someone)
		cmd.Args = append([]string{"/bin/sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: someone, HostID: someone, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		}
	}
}

// covered runs a command where a part of /proc is covered, as containers do it.
func covered(t *testing.T, w *world, cmd *exec.Cmd) {
	w.requireUserNamespaces()
	script := fmt.Sprintf(`mount --bind /dev/null /proc/interrupts && exec setpriv --reuid %d --regid %[1]d --clear-groups "$@"`, someone)
	cmd.Args = append([]string{"unshare", "-m", "/bin/sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.SysProcAttr = "/usr/bin/unshare", nil
}

// filteredVariable makes this program take a container's rights and filter of system calls, and execute its arguments.
const filteredVariable = "MUSTER_TEST_FILTERED"

func filtered(t *testing.T, w *world, cmd *exec.Cmd) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	user := fmt.Sprint(someone)
	cmd.Args = append([]string{self, "/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups", cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.SysProcAttr, cmd.Env = self, nil, append(cmd.Env, filteredVariable+"=1")
}

func init() { // on the main thread, with which the program that is executed goes on
	if os.Getenv(filteredVariable) == "" {
		return
	}
	os.Unsetenv(filteredVariable)
	err := sandbox.DropRights()
	if err == nil {
		err = unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A plain python3 of that user's becomes a session: its workers see their own processes alone, find it at CDSW_MASTER_IP and are
// found by it, a listener that comes late included.
func TestRootlessAttached(t *testing.T) {
	w := userWorld(t)
	w.requireUserNamespaces()
	install := w.asSomeone("clients", "install", "--python", "/usr/bin/python3")
	w.finish(install, 2*deadline).ok(t)
	w.writeShared("outside.py", `
import cdsw, os, socket, time
def listener():
    s = socket.socket(); s.bind(("0.0.0.0", 0)); return s
mine = listener()
code = """
import os, socket
there = [p for p in os.listdir("/proc") if p.isdigit()]
l = socket.create_server((os.environ["CDSW_IP_ADDRESS"], 0))
s = socket.create_connection((os.environ["CDSW_MASTER_IP"], %d))
s.sendall(("%%d processes; port %%d\\n" %% (len(there), l.getsockname()[1])).encode())
c, _ = l.accept()
print("worker heard", c.makefile().readline().strip())
""" % mine.getsockname()[1]
workers = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code=code)
time.sleep(1)
mine.listen()
c, _ = mine.accept()
said = c.makefile().readline().strip()
print("master heard", said.split(";")[0])
back = socket.create_connection((workers[0]["ip_address"], int(said.split()[-1])))
back.sendall(b"welcome\n")
print("failures", cdsw.await_workers(workers, timeout_seconds=60)["failures"])
`)
	cmd := w.asSomeone()
	cmd.Path, cmd.Args = "/usr/bin/python3", []string{"python3", "outside.py"}
	cmd.Env = append(cmd.Env, "PATH="+w.root+":/usr/bin:/bin")
	r := w.finish(cmd, 4*deadline).ok(t)
	r.has(t, "master heard 2 processes\n", "worker heard welcome\n", "failures []\n")
	until(t, "the server ends by itself", func() bool { return len(processesOf(someone)) == 0 })
}

// An engine shares the user with servers, keepers and other engines: it reaches none of them, also where it finds their sockets,
// as of another server of the same user.
func TestRootlessEngineReachesNobody(t *testing.T) {
	w := userWorld(t)
	w.requireUserNamespaces()
	up := w.begin(w.asSomeone("up"))
	up.await("the server answers")
	w.writeShared("other.py", "import time\nprint('waiting', flush=True)\ntime.sleep(1000)")
	other := w.begin(w.asSomeone("run", "other.py"))
	other.await("waiting\n")
	keepers, _ := filepath.Glob(filepath.Join(w.root, "state", "sessions", "*", "keeper.sock"))
	if len(keepers) != 1 {
		t.Fatalf("keepers' sockets %q", keepers)
	}
	w.writeShared("session.py", fmt.Sprintf(`
import ctypes, os, signal, socket
def answer(kind, path, say):
    s = socket.socket(socket.AF_UNIX, kind)
    s.settimeout(20)
    try:
        s.connect(path)
        s.send(say)
        return s.recv(100)
    except OSError as e:
        return type(e).__name__
print("server says", answer(socket.SOCK_STREAM, %q, b"GET /muster/v1/version HTTP/1.0\r\n\r\n"))
print("keeper says", answer(socket.SOCK_SEQPACKET, %q, b'{"op":"end"}'))
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    return "done" if getattr(libc, name)(*args) >= 0 else os.strerror(ctypes.get_errno())
print("trace", call("ptrace", 16, 1, 0, 0), "| namespaces", call("unshare", 0x10000000), "| mount", call("mount", b"none", b"/mnt", b"tmpfs", 0, None))
for path in "/proc/1/ns/net", "/proc/1/environ":
    try:
        print(path, os.readlink(path) if "ns" in path else open(path).read())
    except OSError as e:
        print(path, type(e).__name__)
os.kill(1, signal.SIGKILL)
print("init lives", os.path.exists("/proc/1"))
`, filepath.Join(w.root, "run", "server.sock"), keepers[0]))
	second := filepath.Join(w.root, "second")
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	os.Chown(second, someone, someone)
	cmd := w.asSomeone("run", "--server", "none", "--rung", "rootless", "session.py")
	cmd.Env = append(cmd.Env, "MUSTER_STATE_DIR="+filepath.Join(second, "state"), "MUSTER_RUNTIME_DIR="+filepath.Join(second, "run"))
	r := w.finish(cmd, 4*deadline).ok(t)
	for _, who := range []string{"server", "keeper"} {
		if !strings.Contains(r.out, who+" says b''\n") && !strings.Contains(r.out, who+" says ConnectionResetError\n") && !strings.Contains(r.out, who+" says BrokenPipeError\n") {
			t.Errorf("the %s answered an engine: %s", who, r.out)
		}
	}
	const no = "Operation not permitted"
	r.has(t, "trace "+no+" | namespaces "+no+" | mount "+no+"\n", "/proc/1/ns/net PermissionError\n", "/proc/1/environ PermissionError\n", "init lives True\n")
	other.cmd.Process.Signal(syscall.SIGTERM)
	other.wait()
}
