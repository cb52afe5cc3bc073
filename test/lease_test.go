package test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// The server cannot watch a "muster run" that came over TCP, which may be on another machine: its session ends some seconds
// after its connection.
func TestKilledRunOverTCP(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	w.env = append(w.env, "MUSTER_HOST=http://"+address)
	w.server("--listen", address)
	w.write("long.py", `
import cdsw, time
cdsw.launch_workers(1, 0.2, 0.2, name="w", code="print('up', flush=True)\nimport time; time.sleep(5432)")
time.sleep(5432)
`)
	killed, kept := w.start("run", "long.py"), w.start("run", "long.py")
	killed.await("[w] up")
	kept.await("[w] up")
	processes := func() int { return len(pidsOf(filepath.Join(w.project, "long.py"))) }
	if n := processes(); n != 2 {
		t.Fatalf("%d sessions", n)
	}
	kill(t, []int{killed.cmd.Process.Pid})
	until(t, "its session is gone", func() bool { return processes() == 1 && len(w.keepers()) == 1 })
	w.muster("ps", "-a").ok(t).has(t, "ended by the loss of its owner's connection")
	if out := kept.output(); strings.Contains(out, "ended") {
		t.Errorf("the other one: %s", out)
	}
}
