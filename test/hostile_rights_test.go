package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rights are the lines of /proc/self/status that say what a process may do, and its user and groups.
const rights = `grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status | tr -s '\t ' ' '`

// rootsRights are those of an engine of root: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
// sys_chroot and setfcap (capabilities(7)).
const rootsRights = `Uid: 0 0 0 0
Gid: 0 0 0 0
CapInh: 0000000000000000
CapPrm: 00000000800405fb
CapEff: 00000000800405fb
CapBnd: 00000000800405fb
CapAmb: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
`

// initsRights are those of each thread of an engine's first process. The bounding set counts at an exec only.
const initsRights = "CapInh: 0000000000000000 CapPrm: 00000000800405fb CapEff: 00000000800405fb CapAmb: 0000000000000000 NoNewPrivs: 1 Seccomp: 2 \n"

// Every entrance into an engine leads to the same rights, root's engines' too: its own code, what that starts, a program of
// set-user-ID, its terminal, and ssh.
func TestRightsOfRootsEngines(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	w.write("rights", rights)
	suid := filepath.Join(w.project, "suid")
	b, err := os.ReadFile("/bin/dash")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(suid, b, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(suid, 0o4755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	r := w.script(`
import cdsw, os, subprocess, time
def sh(*command): return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
def told(what, text): open("told-" + what, "w").write("\n".join(l for l in text.splitlines() if not l.startswith("Groups")) + "\n")
told("session", sh("sh", "rights"))
told("set-user-ID", sh("./suid", "rights"))
(w,) = cdsw.launch_workers(1, 0.2, 0.2, code="import subprocess, time; open('told', 'w').write(subprocess.run(['sh', 'rights'], capture_output=True, text=True).stdout); open('up', 'w'); time.sleep(1000)")
while not os.path.exists("up"): time.sleep(0.01)
told("worker", open("told").read())
told("ssh", sh("ssh", w["ip_address"], "sh rights"))
told("ssh terminal", sh("ssh", "-tt", w["ip_address"], "sh rights").replace("\r", ""))
`).ok(t)
	for _, where := range []string{"session", "set-user-ID", "worker", "ssh", "ssh terminal"} {
		got, err := os.ReadFile(filepath.Join(w.project, "told-"+where))
		if err != nil {
			t.Fatal(err, r.out, r.err)
		}
		if string(got) != rootsRights {
			t.Errorf("%s:\n%swant\n%s", where, got, rootsRights)
		}
	}
}

// Go starts threads, and each has rights of its own: no thread of an engine's first process has more than the engine, whether its
// interpreter was started or forked.
func TestRightsOfInitsThreads(t *testing.T) {
	w := newAheadWorld(t)
	requireRoot(t)
	w.write("init", `for t in /proc/1/task/*; do grep -E '^(Cap[IPEA]|NoNewPrivs|Seccomp:)' $t/status | tr -s '\t\n' ' '; echo; done`)
	w.write("worker.py", `
import subprocess, sys
said = open("/proc/self/cmdline").read().split(chr(0))
with open("told-" + ("fork" if "fork" in said else "start"), "w") as f:
    subprocess.run(["sh", "init"], stdout=f, check=True)
`)
	w.script(`
import cdsw, os, time
end = time.time() + 60
while not (os.path.exists("told-fork") and os.path.exists("told-start")):
    assert time.time() < end, os.listdir()
    done = cdsw.await_workers(cdsw.launch_workers(1, 0.2, 0.2, script="worker.py"))
    assert not done["failures"], done
    time.sleep(0.2)
`).ok(t)
	for _, how := range []string{"start", "fork"} {
		b, err := os.ReadFile(filepath.Join(w.project, "told-"+how))
		if err != nil {
			t.Fatal(err)
		}
		threads := slices.Collect(strings.Lines(string(b)))
		if len(threads) < 2 {
			t.Errorf("%s: only %d threads told", how, len(threads))
		}
		for _, got := range threads {
			if got != initsRights && got != "\n" { // it has just ended
				t.Errorf("%s: a thread has\n%swant\n%s", how, got, initsRights)
			}
		}
	}
}

// Debuggers of an engine's own processes work: gdb starts one without address space randomisation, stops it at a breakpoint and
// attaches to another; strace sees a child's calls; a process may read its child's memory.
func TestDebuggersWork(t *testing.T) {
	w := newWorld(t)
	w.write("prog.c", "#include <unistd.h>\nint twice(int n) { return 2 * n; }\nint main() { int r = twice(21); for (;;) pause(); return r; }\n")
	r := w.script(`
import ctypes, os, shutil, subprocess, sys, time
def sh(*command, **kw): return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, **kw)
subprocess.run(["gcc", "-g", "-O0", "-o", "/tmp/prog", "prog.c"], check=True)
if shutil.which("gdb"):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    g = sh("gdb", "-nx", "-batch", "-ex", "break twice", "-ex", "run", "-ex", "print n", "-ex", "kill", "/tmp/prog", env=env)
    print("breakpoint", "$1 = 21" in g.stdout, "randomization" in g.stderr, g.stderr if "$1 = 21" not in g.stdout else "")
    p = subprocess.Popen(["/tmp/prog"])
    g = sh("gdb", "-nx", "-batch", "-p", str(p.pid), "-ex", "frame function main", "-ex", "print r", env=env)
    print("attached", "$1 = 42" in g.stdout, g.stderr if "$1 = 42" not in g.stdout else "")
    p.kill(); p.wait()
else:
    print("capability gdb: not installed")
if shutil.which("strace"):
    s = sh("strace", "-f", "-e", "trace=execve", "sh", "-c", "true; ls / >/dev/null")
    print("strace", "execve" in s.stderr and s.returncode == 0)
else:
    print("capability strace: not installed")
# What py-spy does: the memory of a child, without stopping it.
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
libc = ctypes.CDLL(None, use_errno=True)
for line in open(f"/proc/{child.pid}/maps"):
    low, high = (int(x, 16) for x in line.split()[0].split("-"))
    if " r" in line: break
class iovec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
b = ctypes.create_string_buffer(16)
n = libc.process_vm_readv(child.pid, ctypes.byref(iovec(ctypes.addressof(b), 16)), 1, ctypes.byref(iovec(low, 16)), 1, 0)
print("read", n, b.raw[:4], os.strerror(ctypes.get_errno()) if n < 0 else "")
child.kill()
`).ok(t)
	r.has(t, "read 16 b'\\x7fELF'")
	for _, tool := range []struct{ name, want string }{{"gdb", "breakpoint True False"}, {"gdb", "attached True"}, {"strace", "strace True"}} {
		if strings.Contains(r.out, "capability "+tool.name) {
			t.Logf("capability %s: not installed here", tool.name)
			continue
		}
		r.has(t, tool.want)
	}
}
