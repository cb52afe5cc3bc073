package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

const deadline = 30 * time.Second

// watched is a session and what is observed of it.
type watched struct {
	t    testing.TB
	s    driver.Session
	spec driver.SessionSpec

	mu      sync.Mutex
	seen    []driver.Observation
	changed chan struct{}
}

func newWatched(t testing.TB) *watched {
	w := &watched{t: t, changed: make(chan struct{})}
	dir := t.TempDir()
	w.spec = driver.SessionSpec{ID: engine.NewID(), ConsoleDir: filepath.Join(dir, "console"), Observe: w.observe}
	return w
}

func (r rung) open(t testing.TB, d recorded) *watched {
	t.Helper()
	w := newWatched(t)
	s, err := d.Open(context.Background(), w.spec)
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	t.Cleanup(w.end)
	return w
}

func (w *watched) end() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := w.s.End(ctx, 0, "the test"); err != nil {
		w.t.Errorf("end: %v", err)
	}
}

func (w *watched) observe(o driver.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, o)
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watched) await(kind driver.ObservationKind, id engine.ID) driver.Observation {
	w.t.Helper()
	late := time.After(deadline)
	for {
		w.mu.Lock()
		changed := w.changed
		for _, o := range w.seen {
			if o.Kind == kind && o.Engine == id {
				w.mu.Unlock()
				return o
			}
		}
		seen := fmt.Sprintf("%+v", w.seen)
		w.mu.Unlock()
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("not observed: %s of %q; observed: %s", kind, id, seen)
		}
	}
}

func (w *watched) engine(role engine.Role, argv ...string) driver.Spec {
	w.t.Helper()
	addrs, err := w.s.Reserve(1)
	if err != nil {
		w.t.Fatal(err)
	}
	id := engine.NewID()
	return driver.Spec{
		ID: id, Name: "e", Role: role, Address: addrs[0], Master: addrs[0], Hostname: string(id), Argv: argv,
		Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", Resources: engine.Resources{CPU: 1},
	}
}

func (w *watched) start(spec driver.Spec) driver.Spec {
	w.t.Helper()
	if err := w.s.Start(context.Background(), []driver.Spec{spec})[0]; err != nil {
		w.t.Fatal(err)
	}
	return spec
}

func (w *watched) sh(text string) driver.Spec {
	return w.start(w.engine(engine.RoleWorker, "/bin/sh", "-c", text))
}

func (w *watched) stdout(id engine.ID) string {
	w.t.Helper()
	log, err := console.Open(w.spec.ConsoleDir)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := log.Engine(string(id), "")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	var b strings.Builder
	for {
		r, _, err := c.Next(nil)
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if r.Stream == console.Stdout {
			b.Write(r.Payload)
		}
	}
}

// bothRungs runs a test with a driver of each rung, and looks at what stays behind.
func bothRungs(t *testing.T, test func(t *testing.T, r rung, d recorded)) {
	for _, name := range []Rung{Root, Plain} {
		t.Run(string(name), func(t *testing.T) {
			r := newRung(t, name)
			before := r.count()
			t.Cleanup(func() { r.expectNothingLeft(t, before) })
			d := r.driver(t)
			t.Cleanup(func() { d.Close() })
			test(t, r, d)
		})
	}
}

func (r rung) expectNothingLeft(t *testing.T, before map[string]int) {
	for until := time.Now().Add(deadline); ; {
		more := false
		now := r.count()
		for what, n := range now {
			more = more || n > before[what]
		}
		if !more {
			return
		}
		if time.Now().After(until) {
			t.Errorf("left behind: before %v, now %v", before, now)
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}

// A keeper that is killed takes its engines with it; the server says so, and removes what the keeper would have removed.
func TestKeeperKilled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		main := w.start(w.engine(engine.RoleSession, "/bin/sleep", "1000"))
		worker := w.sh("trap '' TERM; sleep 1000 & sleep 1000")
		w.await(driver.Started, main.ID)
		w.await(driver.Started, worker.ID)
		w.s.(*session).keeper.Process.Kill()
		for _, id := range []engine.ID{main.ID, worker.ID} {
			if o := w.await(driver.Exited, id); o.Exit.Reason != engine.ReasonKeeperLost {
				t.Errorf("exit %+v", o.Exit)
			}
		}
		if o := w.await(driver.Ended, ""); o.Exit == nil || o.Exit.Reason != engine.ReasonKeeperLost {
			t.Errorf("end %+v", o.Exit)
		}
	})
}

// An engine whose init is killed before it reports anything, and one whose init is killed later.
func TestInitKilled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		spec := w.sh("sleep 1000 & setsid sleep 1000 & sleep 1000")
		w.await(driver.Started, spec.ID)
		s := w.s.(*session)
		s.mu.Lock()
		pid := s.engines[spec.ID].pid
		s.mu.Unlock()
		unix.Kill(pid, unix.SIGKILL)
		if x := w.await(driver.Exited, spec.ID).Exit; x.Reason != engine.ReasonSignal || x.Code != 137 {
			t.Errorf("%+v", x)
		}
	})
}

func TestOpenCancelled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		for i := range 12 { // at different moments of an Open, which takes some 20 ms
			w := newWatched(t)
			ctx, cancel := context.WithCancel(context.Background())
			timer := time.AfterFunc(time.Duration(i)*2*time.Millisecond, cancel)
			s, err := d.Open(ctx, w.spec)
			timer.Stop()
			cancel()
			if err == nil {
				w.s = s
				w.end()
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("open: %v", err)
			} else if len(w.seen) > 0 {
				t.Errorf("observed of a session that was not opened: %+v", w.seen)
			}
		}
	})
}

func TestOpenFails(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := newWatched(t)
		w.spec.ConsoleDir = "/dev/null/console"
		_, err := d.Open(context.Background(), w.spec)
		if engine.KindOf(err) != engine.Unavailable || !strings.Contains(err.Error(), "mkdir /dev/null") {
			t.Errorf("%v", err)
		}
	})
}

// closed reports whether a file was closed by somebody else.
func closed(f *os.File) bool { return errors.Is(f.Close(), os.ErrClosed) }

func TestFilesAreTakenOver(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		null := func() *os.File {
			f, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		w := newWatched(t)
		w.spec.Owner = null()
		if _, err := d.Open(cancelled, w.spec); !errors.Is(err, context.Canceled) || !closed(w.spec.Owner) {
			t.Errorf("cancelled open: %v, or the owner stays open", err)
		}
		w.spec.Owner = null()
		_, err := d.Recover(context.Background(), w.spec, driver.Handle{Session: w.spec.ID})
		if engine.KindOf(err) != engine.NotFound || !closed(w.spec.Owner) {
			t.Errorf("recover of nothing: %v, or the owner stays open", err)
		}
		w = r.open(t, d)
		spec := w.engine(engine.RoleWorker, "/bin/true")
		spec.Stdin = null()
		if err := w.s.Start(cancelled, []driver.Spec{spec})[0]; !errors.Is(err, context.Canceled) || !closed(spec.Stdin) {
			t.Errorf("cancelled start: %v, or stdin stays open", err)
		}
		if err := w.s.Start(cancelled, nil); len(err) != 0 {
			t.Error(err)
		}
	})
}

// A session outlives its driver, keeps names and addresses, and can be ended by the next one.
func TestRecovered(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		main := w.start(w.engine(engine.RoleSession, "/bin/sleep", "1000"))
		w.await(driver.Started, main.ID)
		d.Close()
		if _, err := d.Open(context.Background(), newWatched(t).spec); engine.KindOf(err) != engine.Unavailable {
			t.Errorf("open of a closed driver: %v", err)
		}
		if n := len(w.seen); n != 1 {
			t.Errorf("observed: %+v", w.seen)
		}
		d2 := r.driver(t)
		defer d2.Close()
		w.seen = nil // nobody observes now
		s, err := d2.Recover(context.Background(), w.spec, w.s.Handle())
		if err != nil {
			t.Fatal(err)
		}
		w.s = s
		w.await(driver.Started, main.ID)
		if r.name == Root {
			finder := w.sh("getent hosts " + main.Hostname)
			w.await(driver.Exited, finder.ID)
			if got := w.stdout(finder.ID); !strings.HasPrefix(got, main.Address.String()) {
				t.Errorf("the name of an engine from before the restart: %q", got)
			}
		}
		w.end()
		if o := w.await(driver.Exited, main.ID); o.Exit.Status() != engine.Stopped {
			t.Errorf("%+v", o.Exit)
		}
	})
}

// A stop with much time does not hold up the session's end.
func TestEndIsSoonerThanStop(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		spec := w.sh("trap '' TERM; echo ready; while :; do sleep 1; done")
		w.await(driver.Started, spec.ID)
		if err := w.s.Stop(context.Background(), spec.ID, time.Hour, engine.ReasonStopped, "somebody"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := w.s.End(ctx, 100*time.Millisecond, "the test"); err != nil {
			t.Fatal(err)
		}
		if x := w.await(driver.Exited, spec.ID).Exit; x.By != "somebody" {
			t.Errorf("%+v", x)
		}
	})
}

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
			{func(s *driver.Spec) { s.Argv[0], s.Visible = script, []string{script} }, "start script", "the interpreter in its first line"},
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
	r := newRung(t, Root)
	before := r.count()
	t.Cleanup(func() { r.expectNothingLeft(t, before) })
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	w := r.open(t, d)
	project := t.TempDir()
	py := func(code string) driver.Spec {
		spec := w.engine(engine.RoleWorker, "/usr/bin/python3", "-c", code)
		spec.Dir, spec.Visible = project, []string{project}
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

// While the disk is full an engine waits; it is told, and nothing is lost. If the disk stays full the session still ends.
func TestFullDisk(t *testing.T) {
	r := newRung(t, Root)
	before := r.count()
	t.Cleanup(func() { r.expectNothingLeft(t, before) })
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	w := newWatched(t)
	if err := os.Mkdir(w.spec.ConsoleDir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount := func(flags uintptr, size string) {
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
