package local

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
)

// Large environments pass; what the kernel does not take is said so.
func TestLargeEnvironment(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		spec := w.engine(engine.RoleWorker, "/bin/sh", "-c", "echo ${#A} ${#B}")
		for _, name := range []string{"A", "B"} {
			spec.Env = append(spec.Env, name+"="+strings.Repeat("x", 120_000))
		}
		w.start(spec)
		w.await(driver.Exited, spec.ID)
		if got := w.stdout(spec.ID); got != "120000 120000\n" {
			t.Errorf("%q", got)
		}
	})
}

func TestLaunchMessages(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		script := filepath.Join(w.t.TempDir(), "script")
		os.WriteFile(script, []byte("#!/missing/interpreter\n"), 0o755)
		for _, c := range []struct {
			change        func(s *driver.Spec)
			step, message string
		}{
			{func(s *driver.Spec) { s.Dir = "/missing/folder" }, "working directory", "/missing/folder does not exist"},
			{func(s *driver.Spec) { s.Dir = "/etc/passwd" }, "working directory", "/etc/passwd is no folder"},
			{func(s *driver.Spec) { s.Argv[0] = "/missing/python3" }, "start python3", "/missing/python3 does not exist"},
			{func(s *driver.Spec) { s.Argv[0] = "/etc/passwd" }, "start passwd", "not executable"},
			{func(s *driver.Spec) { s.Argv[0], s.Visible, s.Shared = script, []string{script}, []string{script} }, "start script", "the interpreter in its first line"},
			{func(s *driver.Spec) { s.Env = []string{"X=" + strings.Repeat("x", 200_000)} }, "start true", "too large (200 kB"},
		} {
			spec := w.engine(engine.RoleWorker, "/bin/true")
			c.change(&spec)
			w.start(spec)
			x := w.await(driver.Exited, spec.ID).Exit
			if x.Reason != engine.ReasonLaunchFailed || x.Step != c.step || !strings.Contains(x.Message, c.message) {
				t.Errorf("step %q, %q; want %q, %q", x.Step, x.Message, c.step, c.message)
			}
		}
	})
}

// An engine whose output somebody else holds open ends, and its output is complete.
func TestPipeHeldByAnotherEngine(t *testing.T) {
	r := newRung(t, upper(t))
	before := r.count()
	t.Cleanup(func() { r.expectNothingLeft(t, before) })
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	w := r.open(t, d)
	project := t.TempDir()
	py := func(code string) driver.Spec {
		spec := w.engine(engine.RoleWorker, "/usr/bin/python3", "-c", code)
		spec.Dir, spec.Shared = project, []string{project}
		return w.start(spec)
	}
	holder := py(`
import socket, array, os, time
s = socket.socket(socket.AF_UNIX); s.bind("s"); s.listen(1)
c, _ = s.accept()
_, anc, _, _ = c.recvmsg(1, 64)
fd = array.array("i", anc[0][2])[0]
c.sendall(b"x")
os.set_blocking(fd, False)
while True:
    try: os.write(fd, b"z" * 1000)
    except BlockingIOError: time.sleep(0.001)
    except BrokenPipeError: break
print("closed", flush=True)
time.sleep(1000)`)
	giver := py(`
import socket, array, time, sys
for i in range(20000): print(i)
sys.stdout.flush()
while True:
    s = socket.socket(socket.AF_UNIX)
    try: s.connect("s"); break
    except OSError: time.sleep(0.01)
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))])
s.recv(1)`)
	if x := w.await(driver.Exited, giver.ID).Exit; x.Reason != engine.ReasonSucceeded {
		t.Fatalf("%+v: %s", x, w.stdout(holder.ID))
	}
	var want strings.Builder
	for i := range 20000 {
		want.WriteString(strconv.Itoa(i) + "\n")
	}
	if got := w.stdout(giver.ID); !strings.HasPrefix(got, want.String()) {
		t.Errorf("%d bytes of output, want the %d written, and perhaps more", len(got), want.Len())
	}
}

// onSmallDisk opens a session whose console is on a disk of 128 kB.
func onSmallDisk(t *testing.T) (w *watched, mount func(flags uintptr, size string)) {
	needRoot(t)
	r := newRung(t, Root)
	before := r.count()
	t.Cleanup(func() { r.expectNothingLeft(t, before) })
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	w = newWatched(t)
	if err := os.Mkdir(w.spec.ConsoleDir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount = func(flags uintptr, size string) {
		if err := unix.Mount("tmpfs", w.spec.ConsoleDir, "tmpfs", flags, "size="+size); err != nil {
			t.Fatal(err)
		}
	}
	mount(0, "128k")
	t.Cleanup(func() { unix.Unmount(w.spec.ConsoleDir, unix.MNT_DETACH) })
	s, err := d.Open(context.Background(), w.spec)
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	t.Cleanup(w.end)
	return w, mount
}

// If the disk stays full, engines that are stopped still end, whatever they wrote to, and so does the session.
func TestDiskStaysFull(t *testing.T) {
	for _, code := range []string{"seq 1 60000", "seq 1 60000 >&2", "seq 1 60000 >&2 & seq 1 60000; wait"} {
		t.Run(code, func(t *testing.T) {
			w, _ := onSmallDisk(t)
			spec := w.sh(code)
			w.await(driver.Notice, "")
			if err := w.s.Stop(t.Context(), spec.ID, 0, engine.ReasonStopped, "the test"); err != nil {
				t.Fatal(err)
			}
			w.await(driver.Exited, spec.ID)
		})
	}
}

// While the disk is full an engine waits; it is told, and nothing is lost.
func TestFullDisk(t *testing.T) {
	w, mount := onSmallDisk(t)
	spec := w.sh("seq 1 60000")
	if o := w.await(driver.Notice, ""); !strings.Contains(o.Text, "no space left") || !strings.Contains(o.Text, string(spec.ID)) {
		t.Errorf("notice %q", o.Text)
	}
	mount(unix.MS_REMOUNT, "64m")
	w.await(driver.Exited, spec.ID)
	var want strings.Builder
	for i := 1; i <= 60000; i++ {
		want.WriteString(strconv.Itoa(i) + "\n")
	}
	if got := w.stdout(spec.ID); got != want.String() {
		t.Errorf("%d bytes of output, want %d", len(got), want.Len())
	}
}

// With nobody there to look, an ephemeral session removes everything of itself.
func TestEphemeralAlone(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := newWatched(t)
		w.spec.Ephemeral = true
		s, err := d.Open(context.Background(), w.spec)
		if err != nil {
			t.Fatal(err)
		}
		w.s = s
		main := w.start(w.engine(engine.RoleSession, "/bin/sh", "-c", "sleep 1000"))
		w.await(driver.Started, main.ID)
		keeper := s.(*session).keeper.Process.Pid
		d.Close()
		unix.Kill(keeper, unix.SIGTERM)
		awaitEnd(keeper, deadline)
		var ws unix.WaitStatus
		unix.Wait4(keeper, &ws, 0, nil)
		for _, dir := range []string{w.spec.ConsoleDir, d.sessionDir(w.spec.ID)} {
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", dir, err)
			}
		}
	})
}

// The number of an init that ended may be another process's by now: nobody is led into that one's network.
func TestDialIsNotMisled(t *testing.T) {
	r := newRung(t, upper(t))
	before := r.count()
	t.Cleanup(func() { r.expectNothingLeft(t, before) })
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	w := newWatched(t)
	s, err := d.Open(context.Background(), w.spec)
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	t.Cleanup(w.end)
	spec := w.sh("sleep 1000")
	w.await(driver.Started, spec.ID)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if _, err := s.Dial(t.Context(), spec.ID, port); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a port that nobody listens on in the engine: %v", err)
	}
	in := s.(*session)
	in.mu.Lock()
	m := in.engines[spec.ID]
	init := m.pid
	m.pid = os.Getpid()
	in.engines[spec.ID] = m
	in.mu.Unlock()
	if c, err := s.Dial(t.Context(), spec.ID, port); engine.KindOf(err) != engine.NotFound {
		t.Errorf("led to the host's own loopback: %v %v", c, err)
	}
	in.mu.Lock()
	m.pid = init
	in.engines[spec.ID] = m
	in.mu.Unlock()
}
