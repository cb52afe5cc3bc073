package test

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// The plain rung, on purpose: processes without namespaces. The same scripts run; what is weaker is said in one line. It
// never stands in for the root rung: those tests name no rung and run as root.

func TestNetworkExampleOnThePlainRung(t *testing.T) {
	requireR(t)
	w := makeWorld(t)
	w.copyExample("network")
	awaitPort(t, 6000)
	r := w.muster("run", "--rung", "plain", "master.py").ok(t)
	r.has(t, "Master received: Hello From Worker!", "Worker received: Hello From Server!")
	for range 3 {
		r = w.muster("run", "--rung", "plain", "master.r").ok(t)
		if strings.Count(r.out, "Server received:") != 2 || strings.Count(r.out, "Worker received:") != 2 {
			t.Errorf("stdout: %s\nstderr: %s", r.out, r.err)
		}
	}
}

// awaitPort waits until a port of the host can be bound again: on this rung it is the host's, and a connection that was
// closed shortly before blocks it for a minute. The manual's master does not ask for SO_REUSEADDR.
func awaitPort(t *testing.T, port int) {
	t.Helper()
	for end := time.Now().Add(3 * deadline); ; time.Sleep(200 * time.Millisecond) {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port})
		syscall.Close(fd)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("port %d stays taken: %v", port, err)
		}
	}
}

// Where the network cannot make an early connect wait, the clients try again.
func TestMasterMayBindSecondsLaterOnThePlainRung(t *testing.T) {
	requireR(t)
	w := makeWorld(t)
	w.write("session.py", `
import cdsw, socket, time
py = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, code="import socket, os; s = socket.create_connection((os.environ['CDSW_MASTER_IP'], 6010)); s.sendall(b'x'); print(s.recv(1))")
r = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2, kernel="r", code="""
con <- socketConnection(host = Sys.getenv("CDSW_MASTER_IP"), port = 6010, blocking = TRUE, server = FALSE, open = "r+")
writeLines("x", con); print(readLines(con, 1)); close(con)
""")
time.sleep(2.5)
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(("0.0.0.0", 6010)); l.listen(5)
for _ in range(2):
    c, _ = l.accept(); c.recv(1); c.sendall(b"y\n"); c.close()
done = cdsw.await_workers(py + r)
assert len(done["workers"]) == 2, done
`)
	w.muster("run", "--rung", "plain", "session.py").ok(t)
}

func TestPlainRungSaysWhatIsMissingAndLeavesNoProcess(t *testing.T) {
	w := makeWorld(t)
	w.write("crew.py", crew)
	b := w.start("run", "--rung", "plain", "crew.py")
	until(t, "both workers are up", func() bool { return strings.Count(b.output(), "crew is up") == 2 })
	if n := strings.Count(b.output(), "plain processes"); n != 1 {
		t.Errorf("%d warnings, want one: %s", n, b.output())
	}
	kill(t, []int{b.cmd.Process.Pid})
	took := until(t, "every descendant is gone", func() bool { return w.crewProcesses() == 0 && len(w.keepers()) == 0 })
	t.Logf("every descendant gone after %v", took.Round(1e6))
}
