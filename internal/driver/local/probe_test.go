package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/keeper/wire"
)

func (d recorded) sh(t *testing.T, text string, writable ...string) (stdout, stderr string, err error) {
	t.Helper()
	out, errOut, err := d.Probe(t.Context(), engine.Probe{
		Argv: []string{"/bin/sh", "-c", text}, Env: []string{"PATH=/usr/bin:/bin", "MARK=yes"}, Dir: "/", Writable: writable,
	})
	return string(out), string(errOut), err
}

func TestProbeAnswers(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		out, errOut, err := d.sh(t, "pwd; echo $MARK; echo aside >&2; cat")
		if err != nil || out != "/\nyes\n" || errOut != "aside\n" {
			t.Errorf("%q %q %v", out, errOut, err)
		}
		out, _, err = d.sh(t, "echo before; exit 7")
		if err == nil || err.Error() != "it ended with exit code 7" || out != "before\n" {
			t.Errorf("%q %v", out, err)
		}
		if out, _, err = d.sh(t, "grep NoNewPrivs /proc/self/status"); err != nil || out != "NoNewPrivs:\t1\n" {
			t.Errorf("%q %v", out, err)
		}
		if _, _, err = d.sh(t, "kill -9 $$"); err == nil || !strings.Contains(err.Error(), "signal 9") {
			t.Error(err)
		}
		if out, _, err = d.sh(t, "yes | head -c 3000000"); err != nil || len(out) != probeOutput {
			t.Errorf("%d bytes, %v", len(out), err)
		}
		_, _, err = d.Probe(t.Context(), engine.Probe{Argv: []string{"/missing/R"}, Dir: "/"})
		if engine.KindOf(err) != engine.Unavailable || !strings.HasPrefix(err.Error(), "/missing/R cannot be run: start R: /missing/R does not exist") {
			t.Error(err)
		}
	})
}

// What goes wrong before a probe runs is no answer of it.
func TestProbeThatCannotBegin(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		if err := os.Remove(r.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := d.sh(t, "exit 7")
		if told, ok := errors.AsType[*engine.Error](err); !ok || !strings.HasPrefix(told.Error(), "/bin/sh cannot be run: make a private folder: mkdir ") {
			t.Errorf("%T %v", err, err)
		}
		if err := errors.Join(os.Remove(r.dir), os.Mkdir(r.dir, 0o700)); err != nil {
			t.Error(err)
		}
	})
}

// A probe sees what an engine sees, and has its rights.
func TestProbeIsIsolated(t *testing.T) {
	r := newRung(t, upper(t))
	before := r.count()
	t.Cleanup(func() { r.expectNothingLeft(t, before) })
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out, _, err := d.sh(t, `
echo processes $(ls /proc | grep -c '^[0-9]')
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
for n in pid mnt net ipc uts; do readlink /proc/self/ns/$n; done
ls `+secret+` `+r.dir+`
echo links $(ls /sys/class/net)
cat /proc/self/cgroup`)
	if err != nil {
		t.Fatal(err)
	}
	rights := "00000000800405fb"
	if r.name == Rootless {
		rights = "0000000000000000"
	}
	for _, want := range []string{"CapEff:\t" + rights + "\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "links lo\n", "/muster/"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	var processes int
	if _, err := fmt.Sscanf(out, "processes %d", &processes); err != nil || processes > 6 { // the init, sh, ls, grep, the substitution
		t.Errorf("it sees %d processes", processes)
	}
	for _, ns := range []string{"pid", "mnt", "net", "ipc", "uts"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil || strings.Contains(out, own) {
			t.Errorf("it is in %s, %v", own, err)
		}
	}
	if strings.Contains(out, secret) {
		t.Errorf("it sees the host's /tmp: %s", out)
	}
}

// Only what a probe names can be changed of what engines cannot change.
func TestProbeWritesWhereItMay(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		cache := t.TempDir()
		d.config.ReadOnly = []string{cache}
		mine := filepath.Join(cache, "mine")
		if err := os.Mkdir(mine, 0o700); err != nil {
			t.Fatal(err)
		}
		out, errOut, err := d.sh(t, "echo x > "+mine+"/file; cd "+mine+" && echo y > ../other; ls ..", mine)
		if b, _ := os.ReadFile(mine + "/file"); err != nil || string(b) != "x\n" {
			t.Errorf("%q: %q %q %v", b, out, errOut, err)
		}
		if _, err := os.Stat(cache + "/other"); r.name != Plain && err == nil {
			t.Error("it wrote beside its folder")
		}
	})
}

// Nothing that a probe starts goes on after it, or after it was given up.
func TestProbeEndsAsAWhole(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		mine := t.TempDir()
		fifo := filepath.Join(mine, "fifo")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		// expectNothingLeft counts processes by the folder in their command line.
		stays := "trap '' TERM HUP; (trap '' TERM HUP; setsid sh -c 'sleep 1000; : " + r.dir + "' &) ; "
		if _, _, err := d.sh(t, stays+"echo done", mine); err != nil {
			t.Error(err)
		}
		gone := map[string]int{}
		for what := range r.count() {
			if gone[what] = 1 << 20; what == "processes" {
				gone[what] = 0
			}
		}
		r.expectNothingLeft(t, gone)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, _, err := d.Probe(ctx, engine.Probe{
				Argv: []string{"/bin/sh", "-c", stays + "echo > " + fifo + "; sleep 1000"}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", Writable: []string{mine},
			})
			ended <- err
		}()
		if _, err := os.ReadFile(fifo); err != nil { // until it runs
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// What a server that was killed left of a probe is swept like what it left of a session.
func TestProbeIsSwept(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		id := engine.NewID()
		dir := filepath.Join(d.sessionDir(id), "engines", string(id), "tmp")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		lock, err := newLock(d.sessionDir(id))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Sweep(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("a probe that runs was swept: %v", err)
		}
		lock.Close()
		if _, err := d.Sweep(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(d.sessionDir(id)); err == nil {
			t.Error("what was left was not swept")
		}
	})
}

func BenchmarkProbe(b *testing.B) {
	for _, name := range rungs() {
		b.Run(string(name), func(b *testing.B) {
			d := newRung(b, name).driver(b)
			defer d.Close()
			for b.Loop() {
				if _, _, err := d.Probe(b.Context(), engine.Probe{Argv: []string{"/bin/true"}, Dir: "/"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What the server itself inherited, on kernels that do not close it for us, no engine does.
func TestInitPassesNothingOn(t *testing.T) {
	private := t.TempDir()
	spec, err := wire.MemoryFile("spec", wire.EngineSpec{Argv: []string{"/bin/sh", "-c", "echo /proc/$$/fd/*"}, Dir: "/", Plain: true, PrivateDir: private})
	if err != nil {
		t.Fatal(err)
	}
	defer spec.Close()
	conn, peer, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer peer.Close()
	cmd := exec.Command(keeperPath)
	cmd.Args[0] = "muster-init"
	cmd.ExtraFiles = []*os.File{spec, peer, spec, spec, spec, spec}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range strings.Fields(string(out)) {
		if n, _ := strconv.Atoi(filepath.Base(fd)); n > wire.InitSpecFD && n < wire.InitSpecFD+len(cmd.ExtraFiles) { // the first is the shell's own, to look
			t.Errorf("the engine has %s", fd)
		}
	}
	if len(out) == 0 {
		t.Error("the engine has no descriptors at all")
	}
}
