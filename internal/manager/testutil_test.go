package manager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/kernel"
	"muster/internal/manager"
	"muster/internal/server"
)

var _ server.Manager = (*manager.Manager)(nil)
var _ manager.Kernels = (*kernel.Table)(nil)

// deadline is how long anything may take that must happen.
const deadline = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripts is a Kernels whose code is a program of the fake driver.
type scripts struct {
	asked         *kernel.Request // the last one, if it is not nil
	threads, bare bool            // of kernel.Ahead
}

func (s scripts) Prepare(_ context.Context, r kernel.Request) (kernel.Command, error) {
	if s.asked != nil {
		*s.asked = r
	}
	switch {
	case r.Kernel != engine.Python3 && r.Kernel != engine.R:
		return kernel.Command{}, engine.Errorf(engine.Invalid, "unknown kernel %q", r.Kernel).WithHint("kernels are python3, r")
	case strings.HasPrefix(r.Script, "missing"):
		return kernel.Command{}, engine.Errorf(engine.Invalid, "script %q does not exist", r.Script)
	case r.Kernel == engine.R:
		return kernel.Command{}, engine.Errorf(engine.Unavailable, "no interpreter for kernel r").WithHint("apt install r-base-core")
	case r.Code == "break":
		return kernel.Command{}, fmt.Errorf("something is wrong with us")
	}
	program, _, _ := strings.Cut(r.Code, "\n# ") // a comment is for the file alone, and may be large
	if program == "" && r.Script == "" {
		program = "hang"
	}
	return kernel.Command{
		Kernel: r.Kernel, Interpreter: "/usr/bin/fake", Argv: append([]string{"fake", program}, r.Args...),
		Env:   map[string]string{"PYTHONPATH": "/clients", "SEEN_INTERPRETER": r.Interpreter[r.Kernel]},
		Files: map[string][]byte{"code.py": []byte(r.Code)}, Ahead: &kernel.Ahead{Argv: []string{"wait"}, Fork: []string{"fork"}, Threads: s.threads, Bare: s.bare},
	}, nil
}

func (scripts) ByEnding(script string, _ []kernel.Own) (engine.Kernel, bool) {
	k := map[string]engine.Kernel{".py": engine.Python3, ".r": engine.R}[filepath.Ext(script)]
	return k, k != ""
}

// bench is a manager over the fake driver.
type bench struct {
	t rapid.TB
	*manager.Manager
	driver  *fake.Driver
	project string
	state   string
}

type option func(*manager.Config, *fake.Options)

func newBench(t testing.TB, opts ...option) *bench {
	t.Helper()
	c := manager.Config{
		Kernels: scripts{}, Capacity: manager.Capacity{MemoryBytes: 24e9, CPU: 4}, StateDir: filepath.Join(t.TempDir(), "state"),
		OwnerToken: "owner", Ephemeral: true, User: "ada", Home: "/home/ada",
	}
	var f fake.Options
	for _, o := range opts {
		o(&c, &f)
	}
	d := fake.New(f)
	if o, ok := c.Driver.(*opens); ok {
		o.Driver = d
	} else {
		c.Driver = d
	}
	m, err := manager.New(c)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, Manager: m, driver: d, project: t.TempDir(), state: c.StateDir}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
		d.Close()
		if left, _ := os.ReadDir(filepath.Join(c.StateDir, "sessions")); len(left) > 0 {
			t.Errorf("files left: %v", left)
		}
		for what, n := range d.World().Count() {
			if n != 0 {
				t.Errorf("left: %d %s", n, what)
			}
		}
	})
	return b
}

// session starts a session that hangs.
func (b *bench) session() engine.ID { return b.sessionOf(api.CreateSession{Code: "hang"}) }

func (b *bench) sessionOf(req api.CreateSession) engine.ID {
	b.t.Helper()
	if req.Project == "" {
		req.Project = b.project
	}
	s, err := b.CreateSession(context.Background(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	return engine.ID(s.ID)
}

// worker is a request for workers that everybody likes.
func worker(n int, code string) api.LaunchWorkers {
	return api.LaunchWorkers{N: n, CPU: 1, Memory: 1, Code: code}
}

// launch launches and releases.
func (b *bench) launch(s engine.ID, req api.LaunchWorkers) []api.Worker {
	b.t.Helper()
	reply, release, err := b.Launch(context.Background(), s, req)
	if err != nil {
		b.t.Fatal(err)
	}
	release()
	return reply.Workers
}

func (b *bench) await(s engine.ID, req api.Await) api.Awaited {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	a, err := b.Await(ctx, s, req, nil)
	if err != nil {
		b.t.Fatalf("await: %v", err)
	}
	return a()
}

func (b *bench) awaitRunning(s engine.ID, ids ...string) api.Awaited {
	b.t.Helper()
	return b.await(s, api.Await{IDs: ids})
}

func (b *bench) awaitEnd(s engine.ID, ids ...string) api.Awaited {
	b.t.Helper()
	return b.await(s, api.Await{IDs: ids, Completion: true})
}

func (b *bench) stop(s engine.ID, ids ...string) []api.StopResult {
	b.t.Helper()
	r, err := b.Stop(context.Background(), s, api.Stop{IDs: ids}, "session")
	if err != nil {
		b.t.Fatal(err)
	}
	return r.Results
}

func (b *bench) engine(id string) api.Worker {
	b.t.Helper()
	w, _, err := b.Engine("", id)
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

// ended waits until nothing follows in the session's console.
func (b *bench) ended(s engine.ID) {
	b.t.Helper()
	_, _, done, err := b.Console(s)
	if err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(deadline):
		b.t.Fatalf("session %s did not end", s)
	}
}

// output reads all that is in the console of one engine; "" is all of the session's.
func (b *bench) output(s engine.ID, id string, stream console.Stream) string {
	b.t.Helper()
	r, _, _, err := b.Console(s)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := r.Session("")
	if id != "" {
		c, err = r.Engine(id, "")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	var out bytes.Buffer
	for {
		rec, _, err := c.Next(nil)
		if err == io.EOF {
			return out.String()
		}
		if err != nil {
			b.t.Fatal(err)
		}
		if rec.Stream == stream {
			out.Write(rec.Payload)
			if stream == console.Event {
				out.WriteByte('\n')
			}
		}
	}
}

// messages are the session's events of a type.
func (b *bench) messages(s engine.ID, kind string) []string {
	b.t.Helper()
	var list []string
	for line := range strings.Lines(b.output(s, "", console.Event)) {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			b.t.Fatalf("event %q: %v", line, err)
		}
		if e.Type == kind {
			list = append(list, e.Message)
		}
	}
	return list
}

func ids(ws []api.Worker) []string {
	var list []string
	for _, w := range ws {
		list = append(list, w.ID)
	}
	return list
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func capacity(c manager.Capacity) option {
	return func(m *manager.Config, _ *fake.Options) { m.Capacity = c }
}

func hard(m *manager.Config, f *fake.Options) {
	m.HardCPU = true
	f.Claim = func(c *driver.Capabilities) { c.CPUCap = true }
}
