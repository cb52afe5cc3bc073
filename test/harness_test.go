package test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline is how long anything may take before a test gives up. Tests never measure against it. An emulated machine sets
// MUSTER_TEST_PATIENCE, a factor.
var deadline = 30 * time.Second * patience()

func patience() time.Duration {
	n, err := strconv.Atoi(os.Getenv("MUSTER_TEST_PATIENCE"))
	if err != nil || n < 1 {
		return 1
	}
	return time.Duration(n)
}

// world is a place of its own for one test: project, runtime folder and state folder. The cache (keeper, clients, R
// library) is shared: making it is not what tests are about.
type world struct {
	t       *testing.T
	root    string
	project string
	env     []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	requireRoot(t)
	return makeWorld(t)
}

func makeWorld(t *testing.T) *world {
	t.Helper()
	root := t.TempDir()
	w := &world{t: t, root: root, project: filepath.Join(root, "project")}
	for _, d := range []string{w.project, filepath.Join(root, "run"), filepath.Join(root, "state", "sessions")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(os.Environ(), "MUSTER_RUNTIME_DIR="+filepath.Join(root, "run"), "MUSTER_STATE_DIR="+filepath.Join(root, "state"), "NO_COLOR=1")
	w.leavesNothing()
	return w
}

// requireRoot skips a test of the root rung where there is no root: a declared missing capability.
func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: isolated engines need root")
	}
}

// requireR fails loudly instead of skipping: scripts/test installs R.
func requireR(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("Rscript"); err != nil {
		t.Fatal("Rscript is missing: run scripts/need r")
	}
}

func binary(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../bin/muster")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

func repo(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// write puts a file into the project.
func (w *world) write(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.project, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// result is what a finished program showed.
type result struct {
	out, err string
	code     int
}

// cmd prepares a call of muster in the project folder.
func (w *world) cmd(args ...string) *exec.Cmd {
	cmd := exec.Command(binary(w.t), args...)
	cmd.Dir = w.project
	cmd.Env = w.env
	return cmd
}

// muster runs muster to its end.
func (w *world) muster(args ...string) result {
	w.t.Helper()
	return w.finish(w.cmd(args...), 4*deadline)
}

// script writes a Python script and runs it as a session.
func (w *world) script(source string, flags ...string) result {
	w.t.Helper()
	w.write("session.py", source)
	return w.muster(append(append([]string{"run"}, flags...), "session.py")...)
}

func (w *world) finish(cmd *exec.Cmd, limit time.Duration) result {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			w.t.Fatal(err)
		}
	case <-time.After(limit):
		cmd.Process.Signal(syscall.SIGQUIT)
		<-done
		w.t.Fatalf("%v did not end within %v\nstdout: %s\nstderr: %s", cmd.Args, limit, tail(out.String()), tail(errs.String()))
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func tail(s string) string {
	if len(s) > 6000 {
		return "…" + s[len(s)-6000:]
	}
	return s
}

// ok fails the test unless the program ended with exit code 0.
func (r result) ok(t *testing.T) result {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d\nstdout: %s\nstderr: %s", r.code, tail(r.out), tail(r.err))
	}
	return r
}

func (r result) has(t *testing.T, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(r.out+r.err, p) {
			t.Errorf("%q is missing\nstdout: %s\nstderr: %s", p, tail(r.out), tail(r.err))
		}
	}
}

// background is a program that runs beside the test.
type background struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	out  bytes.Buffer
	ping chan struct{}
}

// start starts muster; the test's end kills it if it still runs.
func (w *world) start(args ...string) *background {
	w.t.Helper()
	return w.begin(w.cmd(args...))
}

// begin starts a program as start does.
func (w *world) begin(cmd *exec.Cmd) *background {
	w.t.Helper()
	b := &background{t: w.t, cmd: cmd, done: make(chan struct{}), ping: make(chan struct{}, 1)}
	b.cmd.Stdout, b.cmd.Stderr = b, b
	if b.cmd.SysProcAttr == nil {
		b.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	b.cmd.SysProcAttr.Setpgid = true
	if err := b.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		b.cmd.Wait()
		close(b.done)
	}()
	w.t.Cleanup(func() {
		b.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-b.done:
		case <-time.After(deadline):
			b.cmd.Process.Kill()
			<-b.done
		}
	})
	return b
}

func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out.Write(p)
	select {
	case b.ping <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (b *background) output() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// await waits until the program printed text.
func (b *background) await(text string) {
	b.t.Helper()
	limit := time.After(deadline)
	for !strings.Contains(b.output(), text) {
		select {
		case <-b.ping:
		case <-b.done:
			if !strings.Contains(b.output(), text) {
				b.t.Fatalf("ended without printing %q:\n%s", text, tail(b.output()))
			}
		case <-limit:
			b.t.Fatalf("did not print %q:\n%s", text, tail(b.output()))
		}
	}
}

// match waits until the program printed what the pattern matches, and returns the groups.
func (b *background) match(pattern string) []string {
	b.t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(deadline)
	for {
		if m := re.FindStringSubmatch(b.output()); m != nil {
			return m[1:]
		}
		select {
		case <-b.ping:
		case <-b.done:
			if m := re.FindStringSubmatch(b.output()); m != nil {
				return m[1:]
			}
			b.t.Fatalf("ended without printing %q:\n%s", pattern, tail(b.output()))
		case <-limit:
			b.t.Fatalf("did not print %q:\n%s", pattern, tail(b.output()))
		}
	}
}

// wait waits for the program's end and returns its exit code.
func (b *background) wait() int {
	b.t.Helper()
	select {
	case <-b.done:
		return b.cmd.ProcessState.ExitCode()
	case <-time.After(deadline):
		b.t.Fatalf("did not end:\n%s", tail(b.output()))
		return -1
	}
}

func (b *background) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// until waits for a condition of the machine; nothing tells when those become true.
func until(t *testing.T, what string, cond func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, deadline)
		}
	}
	return time.Since(start)
}

// server starts `muster up` and waits until it answers.
func (w *world) server(flags ...string) *background {
	w.t.Helper()
	b := w.start(append([]string{"up"}, flags...)...)
	until(w.t, "the server answers", func() bool {
		select {
		case <-b.done:
			w.t.Fatalf("muster up ended: %s", b.output())
		default:
		}
		return w.cmd("ps").Run() == nil
	})
	return b
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }
