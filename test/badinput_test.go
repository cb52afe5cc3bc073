package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// launch_workers: what is no number at all raises before anything is sent; what the server refuses comes back as a dict
// without id, with a message, and a line in the console.
func TestBadLaunches(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	os.Mkdir(filepath.Join(w.project, "folder.py"), 0o700)
	syscall.Mkfifo(filepath.Join(w.project, "fifo.py"), 0o600)
	os.Symlink("/nowhere.py", filepath.Join(w.project, "dangling.py"))
	w.write("muster.toml", "[kernels.nowhere]\ncommand = \"no-such-interpreter\"\n")
	r := w.script(`
import cdsw
def raised(**kw):
    try:
        cdsw.launch_workers(**dict(dict(n=1, cpu=0.1, memory=0.1, code="1"), **kw))
        print("NOT RAISED", kw)
    except (TypeError, ValueError) as e:
        print(type(e).__name__, str(e).replace("\n", " "))
raised(n=-1); raised(n=10001); raised(n="many"); raised(cpu="much"); raised(memory="lots"); raised(cpu=float("nan")); raised(n=None); raised(env="x")
assert cdsw.launch_workers(n=0, cpu=1, memory=1, code="1") == []
def refused(label, **kw):
    ws = cdsw.launch_workers(**dict(dict(n=2, cpu=0.1, memory=0.1, code="1"), **kw))
    assert len(ws) == 2 and all("id" not in w and w["message"] and "k8sMessage" in w and "engineId" in w for w in ws), (label, ws)
    print("refused", label, "|", ws[0]["message"])
refused("cpu 0", cpu=0)
refused("cpu -1", cpu=-1)
refused("memory 0", memory=0)
refused("memory -2", memory=-2)
refused("memory huge", memory=4000)
refused("gpus", nvidia_gpu=9)
refused("kernel", kernel="julia")
refused("no interpreter", kernel="nowhere")
refused("missing", script="missing.py")
refused("folder", script="folder.py")
refused("fifo", script="fifo.py")
refused("dangling", script="dangling.py")
refused("outside", script="../outside.py")
refused("nul code", code="print(1)\0")
refused("surrogate", code="print('\udc80')")
refused("nul env", env={"A": "x\0y"})
refused("huge env", env={"A": "x" * 2000000})
print([x.status_code for x in cdsw.stop_workers("aaaaaaaaaaaaaaaa")], [x.status_code for x in cdsw.stop_workers("not an id")])
f = cdsw.await_workers(["aaaaaaaaaaaaaaaa", ""], timeout_seconds=5)["failures"]
print("unknown", len(f), f[0]["status"])
assert cdsw.list_workers() == []
`).ok(t)
	if strings.Contains(r.out, "NOT RAISED") {
		t.Errorf("%s", r.out)
	}
	for _, want := range []string{
		"refused cpu 0 | ", "refused memory huge | asks for 4000 GB", "refused gpus | asks for 9 GPUs",
		"refused kernel | unknown kernel \"julia\"", "refused missing | script \"missing.py\" does not exist",
		"refused folder | script \"folder.py\" is a folder", "refused fifo | script \"fifo.py\" is no regular file",
		"refused dangling | script \"dangling.py\" is a link that leads nowhere", "refused outside | script \"../outside.py\" leads out of the project",
		"refused nul code | ", "refused surrogate | ", "refused nul env | ", "refused huge env | ", "refused no interpreter | no interpreter for kernel nowhere: no-such-interpreter is not on the PATH",
		"[404] [404]", "unknown 2 unknown",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is missing in\n%s", want, r.out)
		}
	}
	if n := strings.Count(r.err, "muster: "); n < 17 {
		t.Errorf("%d lines in the console tell of refusals, want one for each:\n%s", n, r.err)
	}
	w.nothingLeft(before)
}

func TestBadCommandLines(t *testing.T) {
	w := newWorld(t)
	os.Mkdir(filepath.Join(w.project, "folder.py"), 0o700)
	w.write("notes.txt", "")
	w.write("ok.py", "print('ran')\n")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"run", 2, "FILE"},
		{"run missing.py", 1, `script "missing.py" does not exist`},
		{"run folder.py", 1, "is a folder"},
		{"run notes.txt", 1, `cannot tell the kernel of script "notes.txt"`},
		{"run --kernel julia ok.py", 1, `unknown kernel "julia"`},
		{"run --cpu 0x ok.py", 2, "cpu"},
		{"run --cpu -1 ok.py", 2, "cpu"},
		{"run --memory -1 ok.py", 2, "memory"},
		{"run --memory 4000 ok.py", 1, "4000 GB"},
		{"run --gpu 9 ok.py", 1, "GPU"},
		{"run --env =x ok.py", 2, "env"},
		{"run --project /nowhere ok.py", 1, "/nowhere"},
		{"up --gpus {", 2, `the GPU inventory "{" is neither a file nor JSON`},
		{"run --gpus {} ok.py", 2, "is neither a file nor JSON"},
		{"run --rung top ok.py", 2, `there is no rung "top"`},
		{"run --frobnicate ok.py", 2, "frobnicate"},
		{"frobnicate", 2, "frobnicate"},
		{"ps", 3, "muster up"},
		{"logs abcdefgh", 3, "muster up"},
		{"stop", 2, "needs ids"},
		{"up --network 1.2.3.4/33", 2, "1.2.3.4/33"},
		{"up --network 127.0.0.0/16", 2, "127.0.0.0"},
	} {
		r := w.muster(strings.Fields(c.args)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || !strings.HasPrefix(r.err, "muster: ") || strings.Contains(r.err, "goroutine") {
			t.Errorf("muster %s: exit code %d (want %d)\n%s(want %q)", c.args, r.code, c.code, r.err, c.want)
		}
	}
}

func TestAddressRangeOfTheHostIsRefused(t *testing.T) {
	w := newWorld(t)
	var used string
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n := a.(*net.IPNet); n.IP.To4() != nil && !n.IP.IsLoopback() {
			used = (&net.IPNet{IP: n.IP.Mask(net.CIDRMask(24, 32)), Mask: net.CIDRMask(24, 32)}).String()
		}
	}
	if used == "" {
		t.Skip("capability host address: this machine has no address but its loopback's")
	}
	if r := w.muster("up", "--network", used); r.code != 1 || !strings.Contains(r.err, used) || !strings.Contains(r.err, "--network") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

func TestSecondUpIsRefused(t *testing.T) {
	w := newWorld(t)
	up := w.server()
	if r := w.muster("up"); r.code != 1 || !strings.Contains(r.err, "already runs") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	if r := w.muster("logs", "aaaaaaaaaaaaaaaa"); r.code != 1 || !strings.Contains(r.err, "aaaaaaaaaaaaaaaa") {
		t.Errorf("logs of an unknown id: exit code %d: %s", r.code, r.err)
	}
	if r := w.muster("stop", "aaaaaaaaaaaaaaaa"); r.code != 1 || !strings.Contains(r.err, "aaaaaaaaaaaaaaaa") {
		t.Errorf("stop of an unknown id: exit code %d: %s", r.code, r.err)
	}
	// A killed server leaves its socket file: the next one takes its place.
	up.cmd.Process.Kill()
	up.wait()
	if r := w.muster("ps"); r.code != 3 {
		t.Errorf("ps after the server was killed: exit code %d: %s", r.code, r.err)
	}
	w.server()
}

// A client that meets something else than a server says so.
func TestRubbishServer(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			c.Read(b)
			c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\nConnection: close\r\n\r\n<html>hi</h>"))
			c.Close()
		}
	}()
	w.env = append(w.env, "MUSTER_HOST=http://"+l.Addr().String(), "MUSTER_TOKEN=x")
	if r := w.muster("ps"); r.code == 0 || !strings.Contains(r.err, "<html>") || !strings.HasPrefix(r.err, "muster: ") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	w.write("s.py", `
import cdsw
try:
    cdsw.list_workers()
except Exception as e:
    print(type(e).__name__, e)
`)
	cmd := exec.Command("python3", "s.py")
	cmd.Dir = w.project
	cmd.Env = append(os.Environ(), "MUSTER_URL=http://"+l.Addr().String(), "CDSW_API_KEY=x", "CDSW_ENGINE_ID=abcdefghijklmnop", "PYTHONPATH="+filepath.Join(repo(t), "clients/python"))
	r := w.finish(cmd, deadline).ok(t)
	if strings.Contains(r.err, "Traceback") || !strings.Contains(r.out, "html") {
		t.Errorf("%s%s", r.out, r.err)
	}
}

// The disk that holds the logs is full: the worker waits, a line says so, and nothing is lost when there is room again.
func TestFullDiskLosesNothing(t *testing.T) {
	w := newWorld(t)
	state := filepath.Join(w.root, "state")
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(state, syscall.MNT_DETACH)
	w.server()
	w.write("session.py", `
import cdsw
ws = cdsw.launch_workers(n=1, cpu=1, memory=0.2, name="big", code='''
import hashlib, sys
h = hashlib.sha256()
for i in range(50000):
    line = ("line %d %s\\\\n" % (i, "y" * 80)).encode()
    sys.stdout.buffer.write(line); h.update(line)
sys.stdout.flush()
open("digest", "w").write(h.hexdigest())
''')
assert not cdsw.await_workers(ws, timeout_seconds=0)["failures"]
print("id", ws[0]["id"], flush=True)
input()
`)
	cmd := w.cmd("run", "session.py")
	in, _ := cmd.StdinPipe()
	b := w.begin(cmd)
	b.await("no space left on device")
	if err := syscall.Mount("", state, "", syscall.MS_REMOUNT, "size=100m"); err != nil {
		t.Fatal(err)
	}
	id := b.match(`id (\w{16})\n`)[0]
	digest, _ := os.ReadFile(filepath.Join(w.project, "digest"))
	w.rawLog(t, id, string(digest))
	in.Close()
	b.wait()
}
