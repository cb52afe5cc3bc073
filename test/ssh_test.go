package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// requireSSH fails loudly instead of skipping: scripts/test installs OpenSSH.
func requireSSH(t *testing.T) {
	t.Helper()
	requireRoot(t)
	for _, program := range []string{"/usr/bin/ssh", "/usr/sbin/sshd", "/usr/bin/sftp"} {
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("%v: run scripts/need ssh", err)
		}
	}
}

// peers is the beginning of a session with two workers that wait to be reached, and a helper that runs a command in bash.
const peers = `
import cdsw, hashlib, json, os, subprocess, sys, time
def until(file):
    while not os.path.exists(file): time.sleep(0.01)
def sh(command, **kw):
    r = subprocess.run(["bash", "-c", command], capture_output=True, stdin=kw.pop("stdin", subprocess.DEVNULL), **kw)
    return r.returncode, r.stdout, r.stderr.decode()
def want(got, wanted):
    if got != wanted:
        sys.exit(f"got {got!r}, want {wanted!r}")
ws = cdsw.launch_workers(n=2, cpu=0.2, memory=0.5, env={"ODD": "a 'b' \"c\"\nd $HOME \\ e", "EMPTY": ""}, code="""
import json, os
with open(os.environ["CDSW_ENGINE_ID"] + ".json.new", "w") as f: json.dump(dict(os.environ), f)
os.rename(f.name, os.environ["CDSW_ENGINE_ID"] + ".json")
import time; time.sleep(1000)
""")
a, b = cdsw.await_workers(ws, wait_for_completion=False)["workers"]
ip, other = a["ip_address"], b["ip_address"]
own = os.environ["CDSW_IP_ADDRESS"]
`

// What people type, in each direction, without password or question, although nobody ever connected before.
func TestSSHBetweenEngines(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	before := w.count()
	w.script(peers + `
for command in (f"ssh {ip}", f"ssh -p 2222 {ip}", f"ssh {a['id']}", f"ssh root@{ip}"):
    want(sh(command + " hostname"), (0, (a["id"] + "\n").encode(), ""))
want(sh(f"ssh {ip} ssh {other} hostname"), (0, (b["id"] + "\n").encode(), ""))
want(sh(f"ssh {ip} ssh {b['id']} hostname"), (0, (b["id"] + "\n").encode(), ""))
for command in "ssh localhost", "ssh -p 2222 127.0.0.1":
    want(sh(command + " hostname"), (0, (os.environ["CDSW_ENGINE_ID"] + "\n").encode(), ""))
want(sh(f"ssh {ip} ssh {own} hostname"), (0, (os.environ["CDSW_ENGINE_ID"] + "\n").encode(), ""))
want(sh(f"ssh {ip} 'echo out; echo err >&2; exit 7'"), (7, b"out\n", "err\n"))
want(sh(f"ssh {ip} 'kill -9 \\$\\$'")[0] != 0, True)
want(sh(f"ssh -tt {ip} 'tty; exit 3'")[:2], (3, b"/dev/pts/0\r\n"))
want(sh("echo 'echo $CDSW_ENGINE_ID; exit 4' | ssh -T " + ip), (4, (a["id"] + "\n").encode(), ""))
`).ok(t)
	w.nothingLeft(before)
}

// The session of ssh has the engine's environment, as its own code sees it, and works in the project.
func TestSSHEnvironment(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	bin := filepath.Join(w.project, "venv", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "only-here"), []byte("#!/bin/sh\necho found in $PWD\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"), "LD_LIBRARY_PATH=/some/where", "SSH_CLIENT=from outside", "TERM=dumb")
	w.script(peers+`
until(a["id"] + ".json")
code = json.load(open(a["id"] + ".json"))
status, out, err = sh(f"ssh {ip} env -0")
ssh = dict(kv.split("=", 1) for kv in out.decode().split("\0") if kv)
own = {"SHLVL", "_", "OLDPWD", "SSH_CLIENT", "SSH_CONNECTION", "LC_CTYPE"}  # the shell's, the connection's, Python's
for k in code.keys() - own:
    want((k, ssh.get(k)), (k, code[k]))
want(ssh["ODD"], "a 'b' \"c\"\nd $HOME \\ e")
want((ssh["EMPTY"], ssh["LD_LIBRARY_PATH"], ssh["CDSW_ENGINE_ID"]), ("", "/some/where", a["id"]))
want(ssh["SSH_CLIENT"].split()[0], os.environ["CDSW_IP_ADDRESS"])
want(sh(f"ssh {ip} only-here"), (0, b"found in " + os.getcwd().encode() + b"\n", ""))
`, "--project", w.project).ok(t)
}

// Files of one engine's /tmp to another's, and more than any buffer holds, both ways.
func TestSSHCarriesFiles(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	w.script(peers + `
data = os.urandom(1 << 20) * 40
sum = hashlib.sha256(data).hexdigest().encode()
open("/tmp/large", "wb").write(data)
want(sh(f"scp -q /tmp/large {ip}:/tmp/copy")[0], 0)
want(sh(f"ssh {ip} 'sha256sum </tmp/copy'")[1].split()[0], sum)
want(sh(f"scp -O -q {ip}:/tmp/copy /tmp/back")[0], 0)
want(sh("sha256sum </tmp/back")[1].split()[0], sum)
want(sh(f"echo 'rename /tmp/copy /tmp/moved' | sftp -q -b - {a['id']}")[0], 0)
want(hashlib.sha256(sh(f"ssh {ip} cat /tmp/moved")[1]).hexdigest().encode(), sum)
want(sh(f"ssh {ip} sha256sum", stdin=open("/tmp/large"))[1].split()[0], sum)
want(sh(f"scp -q /tmp/large {ip}:here")[0], 0)
want(os.path.getsize("here"), len(data))
`).ok(t)
}

// The port is there before the first line of a worker's code.
func TestSSHIsThereAtOnce(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	r := w.script(`
import cdsw
ws = cdsw.launch_workers(n=3, cpu=0.2, memory=0.2, name="w", code="import socket, os; print(socket.create_connection((os.environ['CDSW_IP_ADDRESS'], 2222)).recv(8))")
assert len(cdsw.await_workers(ws)["workers"]) == 3
`).ok(t)
	if n := strings.Count(r.out, "b'SSH-2.0-'"); n != 3 {
		t.Errorf("%d of 3 workers reached their port:\n%s", n, r.out)
	}
}

// An engine ends when its code does, although somebody is logged in, and whatever that somebody left running.
func TestSSHKeepsNoEngineAlive(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	before := w.count()
	w.script(`
import cdsw, os, subprocess, time
ws = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="import os, time\nwhile not os.path.exists('end'): time.sleep(0.01)")
ip = cdsw.await_workers(ws, wait_for_completion=False)["workers"][0]["ip_address"]
p = subprocess.Popen(["ssh", "-o", "LogLevel=QUIET", ip, "setsid sleep 1000 & touch in; sleep 1000"])
while not os.path.exists("in"): time.sleep(0.01)
open("end", "w")
done = cdsw.await_workers(ws)
assert [w["status"] for w in done["workers"]] == ["succeeded"], done
assert p.wait(30) == 255
`).ok(t)
	w.nothingLeft(before)
}

// Engines of another session are out of reach, and the key of one session opens no engine of another.
func TestSSHIsOneSessionsAlone(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	a := w.start("run", w.write("a.py", peers+`
import shutil
shutil.copy("/dev/muster/ssh_key", "key.a"); os.chmod("key.a", 0o600)
print("address", other, flush=True)  # one that the second session does not use
time.sleep(1000)
`))
	address := a.match(`address (\S+)`)[0]
	w.env = append(w.env, "MUSTER_AHEAD=off") // engines that wait would be at that address of the second session's network
	w.script(fmt.Sprintf(`
import cdsw, os, subprocess
options = "-v -F /dev/null -p 2222 -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5".split()
def ssh(key, ip):
    r = subprocess.run(["ssh", *options, "-i", key, ip, "true"], capture_output=True, text=True)
    return r.returncode, r.stderr
me = os.environ["CDSW_IP_ADDRESS"]
assert me != %[1]q
assert ssh("/dev/muster/ssh_key", me)[0] == 0
code, said = ssh("key.a", me)
assert code == 255 and "Offering public key: key.a" in said and "Permission denied (publickey)" in said, said
code, said = ssh("/dev/muster/ssh_key", %[1]q)
assert code == 255 and "Connection established" not in said, said
code, said = ssh("key.a", %[1]q)
assert code == 255 and "Connection established" not in said, said
`, address)).ok(t)
}

// Code that wants the port itself gets it: a worker by its env, a session with all workers by the environment of the call.
func TestSSHPortCanBeHad(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	const try = "import socket\ns = socket.socket()\ntry: s.bind(('0.0.0.0', 2222)); s.listen(); print('bound')\nexcept OSError as e: print(e)"
	source := fmt.Sprintf(`
import cdsw
code = %q
ws = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="usual", code=code) + cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="off", code=code, env={"MUSTER_SSH": "off"})
assert len(cdsw.await_workers(ws)["workers"]) == 2
exec(code)
`, try)
	w.script(source).ok(t).has(t, "[usual] [Errno 98] Address already in use", "[off] bound", "\n[Errno 98]")
	w.env = append(w.env, "MUSTER_SSH=off")
	w.script(source).ok(t).has(t, "[usual] bound", "[off] bound", "\nbound")
}

// elsewhere runs a session's script on a machine some of whose files are others.
func (w *world) elsewhere(files map[string]string, source string) result {
	w.t.Helper()
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		w.t.Skip("capability private mounts: unshare -m does not work here (in a chroot it cannot)")
	}
	script := w.write("session.py", source)
	mounts := ""
	for over, file := range files {
		mounts += fmt.Sprintf("mount --bind %s %s && ", file, over)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", mounts+"exec "+binary(w.t)+" run "+script)
	cmd.Dir, cmd.Env = w.project, w.env
	return w.finish(cmd, 4*deadline)
}

// A root whose account is locked and whose shell lets nobody in.
func TestSSHOfLockedAccount(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	changed := func(file, pattern, with string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		after := regexp.MustCompile(pattern).ReplaceAllString(string(b), with)
		if after == string(b) {
			t.Fatalf("%s does not match %s", file, pattern)
		}
		return w.write(filepath.Base(file), after)
	}
	files := map[string]string{
		"/etc/shadow": changed("/etc/shadow", "^root:[^:]*", "root:!"),
		"/etc/passwd": changed("/etc/passwd", "^(root:.*:)[^:\n]*", "${1}/usr/sbin/nologin"),
	}
	r := w.elsewhere(files, peers+`
want(sh("grep ^root: /etc/shadow")[1].split(b":")[1], b"*")
want(sh(f"ssh {ip} 'hostname; echo $0'"), (0, (a["id"] + "\n/bin/sh\n").encode(), ""))
`)
	r.ok(t)
}

// Where the server is not installed the console says so, once.
func TestSSHNotInstalled(t *testing.T) {
	requireSSH(t)
	w := newWorld(t)
	r := w.elsewhere(map[string]string{"/usr/sbin/sshd": w.write("no-program", "")}, peers+`
for host in (ip, ip, other):
    want(sh(f"ssh {host} true")[0], 255)
`).ok(t)
	if n := strings.Count(r.err, "ssh needs openssh-server: apt-get install openssh-server"); n != 1 {
		t.Errorf("told %d times\nstdout: %s\nstderr: %s", n, r.out, r.err)
	}
}

// mpirun in the session starts its daemons on the workers by ssh; the ranks find each other and add up.
func TestMPIExample(t *testing.T) {
	requireSSH(t)
	for _, program := range []string{"mpirun", "mpicc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: run scripts/need mpi", err)
		}
	}
	w := newWorld(t)
	w.copyExample("mpi")
	r := w.muster("run", "session.py").ok(t)
	hosts := map[string]bool{}
	for rank := range 4 {
		m := regexp.MustCompile(fmt.Sprintf(`(?m)^rank %d of 4 on (\w+)$`, rank)).FindStringSubmatch(r.out)
		if m == nil {
			t.Fatalf("rank %d is missing:\n%s\n%s", rank, r.out, r.err)
		}
		hosts[m[1]] = true
	}
	if len(hosts) != 4 || !strings.Contains(r.out, "sum of ranks: 6\n") {
		t.Errorf("%d hosts:\n%s", len(hosts), r.out)
	}
}
