package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runs is how often each network example is run in a row: MUSTER_NETWORK_RUNS, by default few enough for make test.
func runs(t *testing.T) int {
	if s := os.Getenv("MUSTER_NETWORK_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 10
}

// copyExample puts an example's files into the world's project, unchanged.
func (w *world) copyExample(name string) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(repo(w.t), "examples", name, "*"))
	if err != nil || len(files) == 0 {
		w.t.Fatalf("no example %s", name)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			w.t.Fatal(err)
		}
		w.write(filepath.Base(f), string(b))
	}
}

// The manual's scripts must not help themselves: no sleep, no retry, no try, nothing imported that hides a race.
func TestNetworkExampleIsPlain(t *testing.T) {
	for _, f := range []string{"master.py", "worker.py", "master.r", "worker.r"} {
		b, err := os.ReadFile(filepath.Join(repo(t), "examples/network", f))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"sleep", "retry", "try", "while", "timeout", "await"} {
			if strings.Contains(strings.ToLower(string(b)), word) {
				t.Errorf("%s contains %q", f, word)
			}
		}
		for _, line := range lines(string(b)) {
			if strings.Contains(line, "import") && !strings.Contains("import cdsw import os import socket import cdsw, socket import os, socket", strings.TrimSpace(line)) {
				t.Errorf("%s imports more than the manual: %s", f, line)
			}
		}
	}
}

// Python: the master accepts one of the two connections and answers it twice at most; that worker prints the answer.
func TestNetworkExamplePython(t *testing.T) {
	w := newWorld(t)
	w.copyExample("network")
	before := w.count()
	start := time.Now()
	for i := range runs(t) {
		r := w.muster("run", "master.py")
		if r.code != 0 || strings.Count(r.out, "Master received:") < 1 || !strings.Contains(r.out, "Worker received:") ||
			strings.Contains(r.out+r.err, "ConnectionRefused") {
			t.Fatalf("run %d: exit code %d\nstdout: %s\nstderr: %s", i+1, r.code, r.out, r.err)
		}
	}
	t.Logf("%d of %d runs right, %v each", runs(t), runs(t), time.Since(start)/time.Duration(runs(t)))
	w.nothingLeft(before)
}

// R: both workers are served, every time.
func TestNetworkExampleR(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	w.copyExample("network")
	before := w.count()
	start := time.Now()
	for i := range runs(t) {
		r := w.muster("run", "master.r")
		if r.code != 0 || strings.Count(r.out, "Server received:") != 2 || strings.Count(r.out, "Worker received:") != 2 ||
			strings.Contains(r.err, "cannot be opened") {
			t.Fatalf("run %d: exit code %d\nstdout: %s\nstderr: %s", i+1, r.code, r.out, r.err)
		}
	}
	t.Logf("%d of %d runs right, %v each", runs(t), runs(t), time.Since(start)/time.Duration(runs(t)))
	w.nothingLeft(before)
}

// A master that binds long after its workers tried to connect loses nothing.
func TestMasterMayBindSecondsLater(t *testing.T) {
	w := newWorld(t)
	w.script(`
import cdsw, socket, time
ws = cdsw.launch_workers(n=2, cpu=0.2, memory=0.2, code="import socket, os; s = socket.create_connection((os.environ['CDSW_MASTER_IP'], 6000)); s.sendall(b'x'); print(s.recv(1))")
time.sleep(2.5)
l = socket.socket(); l.bind(("0.0.0.0", 6000)); l.listen(5)
for _ in range(2):
    c, _ = l.accept(); c.recv(1); c.sendall(b"y")
done = cdsw.await_workers(ws)
assert len(done["workers"]) == 2, done
`).ok(t)
}

// Between workers, and to the master once a worker is old enough, a refusal is a refusal, at once.
func TestOtherRefusalsAreReal(t *testing.T) {
	w := newWorld(t)
	r := w.script(`
import cdsw
a = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="import time; time.sleep(1000)")
ip = cdsw.await_workers(a, wait_for_completion=False)["workers"][0]["ip_address"]
b = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, name="b", env={"PEER": ip}, code="""
import socket, os
try:
    socket.create_connection((os.environ['PEER'], 6000), timeout=20)
except ConnectionRefusedError:
    print("refused between workers")
""")
cdsw.await_workers(b)
`).ok(t)
	r.has(t, "[b] refused between workers")
}

func TestQueueAndHelloExamples(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	w.copyExample("queue")
	files, _ := filepath.Glob(filepath.Join(w.project, "*.py"))
	if len(files) == 0 {
		t.Fatal("no script in examples/queue")
	}
	// The worker's score is (x-1.25)²+3 for x from -5 to 5 in steps of a quarter.
	w.muster("run", "search.py").ok(t).has(t, "The best of 41 parameters is 1.25, with 3.", "3 workers succeeded, 0 failed.", "f(-5) = 42.0625", "f(5) = 17.0625")
	w.copyExample("hello")
	if r := w.muster("run", "hello.py").ok(t); strings.Count(r.out, "hello from") < 2 && strings.Count(strings.ToLower(r.out), "hello") < 2 {
		t.Errorf("hello.py: %s", r.out)
	}
	if r := w.muster("run", "hello.r").ok(t); strings.Count(strings.ToLower(r.out), "hello") < 2 {
		t.Errorf("hello.r: %s", r.out)
	}
}

// greet listens at an address of the host's and greets whoever comes; nobody else's service can be mistaken for it.
func greet(t *testing.T, address string) (port int, greeting string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	return greetAt(t, l)
}

func greetAt(t *testing.T, l net.Listener) (port int, greeting string) {
	greeting = "greetings from " + l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, greeting)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port, greeting
}

// visit tries to connect from inside of an engine and prints what is said there.
const visit = `
import socket, sys
for at in sys.argv[1:]:
    host, port = at.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=10) as c:
            print(at, "says", c.makefile().read())
    except OSError as e:
        print("no way to", at)
`

// hostAddress is one of the host's own that is not its loopback's.
func hostAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n := a.(*net.IPNet); n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("capability host address: this machine has no address but its loopback's")
	return ""
}

// What listens at the host's loopback means to be out of others' reach, and is; what listens at an address of the host's,
// such as a database, is there for engines too.
func TestHostIsReachedButNotItsLoopback(t *testing.T) {
	w := newWorld(t)
	host := hostAddress(t)
	port, greeting := greet(t, host)
	hidden, secret := greet(t, "127.0.0.1")
	all, _ := greet(t, "0.0.0.0")
	w.write("visit.py", visit)
	at := []string{
		fmt.Sprintf("%s:%d", host, port), fmt.Sprintf("127.0.0.1:%d", hidden), fmt.Sprintf("localhost:%d", hidden),
		fmt.Sprintf("0.0.0.0:%d", hidden), fmt.Sprintf("127.0.0.1:%d", all),
	}
	r := w.muster(append([]string{"run", "visit.py"}, at...)...).ok(t)
	r.has(t, at[0]+" says "+greeting, "no way to "+at[1], "no way to "+at[2], "no way to "+at[3], "no way to "+at[4])
	if strings.Contains(r.out, secret) {
		t.Errorf("the host's loopback was reached: %s", r.out)
	}
}

// The host's loopback stays out of reach by way of the gateway too, at which the session's server listens.
func TestLoopbackIsNotBehindTheGateway(t *testing.T) {
	w := newWorld(t)
	hidden, secret := greet(t, "127.0.0.1")
	w.write("gateway.py", "import os, re, sys\nhost = re.search(r'//([^:/]+)', os.environ['MUSTER_URL']).group(1)\nsys.argv = ['', host + ':"+fmt.Sprint(hidden)+"']\n"+visit)
	r := w.muster("run", "gateway.py").ok(t)
	if !strings.Contains(r.out, "no way to") || strings.Contains(r.out, secret) {
		t.Errorf("%s", r.out)
	}
}

// Outgoing connections work, although the host forwards nothing: to another machine, which is a network namespace here.
func TestOutsideIsReached(t *testing.T) {
	w := newWorld(t)
	here, there := outside(t)
	port, greeting := greetAt(t, listenIn(t, here, there))
	w.write("visit.py", visit)
	at := fmt.Sprintf("%s:%d", there, port)
	w.muster("run", "visit.py", at).ok(t).has(t, at+" says "+greeting)
}

// outside makes another machine: a network namespace with an address of its own, at the other end of a cable. Both are of
// the range for tests of networks (RFC 2544).
func outside(t *testing.T) (space, address string) {
	t.Helper()
	space = fmt.Sprintf("outside-%d", os.Getpid())
	run := func(command string) {
		t.Helper()
		args := strings.Fields(command)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	link := fmt.Sprintf("mo%d", os.Getpid())
	inside := "nsenter --net=/run/netns/" + space + " ip " // ip -n needs mounts that no chroot allows
	run("ip netns add " + space)
	t.Cleanup(func() { run("ip netns del " + space) })
	run("ip link add " + link + " type veth peer name eth0 netns " + space)
	t.Cleanup(func() { run("ip link del " + link) }) // the namespace's end would do it too, but later
	run("ip addr add 198.19.77.1/30 dev " + link)
	run("ip link set " + link + " up")
	run(inside + "addr add 198.19.77.2/30 dev eth0")
	run(inside + "link set eth0 up")
	return space, "198.19.77.2"
}

// listenIn listens at an address in a network namespace: sockets belong to the one of the thread that makes them.
func listenIn(t *testing.T, space, address string) net.Listener {
	t.Helper()
	type made struct {
		l   net.Listener
		err error
	}
	done := make(chan made, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		l, err := func() (net.Listener, error) {
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return nil, err
			}
			defer home.Close()
			f, err := os.Open("/run/netns/" + space)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			l, err := net.Listen("tcp4", net.JoinHostPort(address, "0"))
			return l, errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET))
		}()
		done <- made{l, err}
	}()
	m := <-done
	if m.err != nil {
		t.Fatal(m.err)
	}
	return m.l
}
