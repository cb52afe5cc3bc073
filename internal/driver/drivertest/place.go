package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

// place is a session under test and what was observed of it.
type place struct {
	w       *world
	t       *testing.T
	s       driver.Session
	spec    driver.SessionSpec
	project string
	bell    *console.Bell
	main    driver.Spec               // set by startMain
	seats   map[engine.ID]driver.Spec // of workers that were started ahead, as they were asked for

	mu      sync.Mutex
	seen    []driver.Observation
	changed chan struct{} // closed at the next observation
}

// open opens a place that ends with the case.
func (w *world) open() *place { return w.openOwned(nil) }

func (w *world) openOwned(owner *os.File) *place {
	w.t.Helper()
	p := w.newPlace()
	p.spec.Owner = owner
	s, err := w.d.Open(w.t.Context(), p.spec)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	p.s = s
	w.t.Cleanup(p.end)
	return p
}

func (w *world) newPlace() *place {
	dir := w.t.TempDir()
	p := &place{
		w: w, t: w.t, project: filepath.Join(dir, "project"), bell: console.NewBell(), changed: make(chan struct{}),
	}
	for d := dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // engines may run as another user
	}
	if err := os.Mkdir(p.project, 0o777); err != nil {
		w.t.Fatal(err)
	}
	os.Chmod(p.project, 0o777)
	p.spec = driver.SessionSpec{
		ID: engine.NewID(), ConsoleDir: filepath.Join(dir, "console"), Ephemeral: true, Observe: p.observe, Wrote: p.bell.Ring,
		Inside: &driver.Inside{Port: insidePort, Serve: sayInside},
	}
	return p
}

// end ends the place and checks that this was told.
func (p *place) end() {
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	if err := p.s.End(ctx, grace, "the suite"); err != nil {
		p.t.Errorf("end: %v", err)
	}
	p.await("the session's end", func(o driver.Observation) bool { return o.Kind == driver.Ended })
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.seen[len(p.seen)-1]; last.Kind != driver.Ended {
		p.t.Errorf("observed after the session's end: %+v", last)
	}
}

// write writes to an engine's stdin.
func (p *place) write(id engine.ID, from int64, text string, last bool) driver.Stdin {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), Deadline)
	defer cancel()
	at, err := p.s.WriteStdin(ctx, id, from, []byte(text), last)
	if err != nil {
		p.t.Fatalf("write %q to stdin: %v", text[:min(len(text), 20)], err)
	}
	return at
}

func (p *place) endStdin(id engine.ID) { p.write(id, -1, "", true) }

func (p *place) observe(o driver.Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, o)
	close(p.changed)
	p.changed = make(chan struct{})
}

// await returns the first observation that fits, waiting for it. It must not be called from other goroutines.
func (p *place) await(what string, fits func(driver.Observation) bool) driver.Observation {
	p.t.Helper()
	deadline := time.After(Deadline)
	for next := 0; ; {
		p.mu.Lock()
		news, changed := p.seen[next:], p.changed
		p.mu.Unlock()
		for _, o := range news {
			if fits(o) {
				return o
			}
		}
		next += len(news)
		select {
		case <-changed:
		case <-deadline:
			p.t.Fatalf("not observed within %v: %s; observed: %s", Deadline, what, p.story())
		}
	}
}

func (p *place) story() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, _ := json.Marshal(p.seen)
	return string(b)
}

func (p *place) observed(kind driver.ObservationKind, id engine.ID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, o := range p.seen {
		if o.Kind == kind && o.Engine == id {
			n++
		}
	}
	return n
}

func (p *place) awaitStarted(id engine.ID) {
	p.t.Helper()
	p.await("start of "+string(id), func(o driver.Observation) bool {
		if o.Kind == driver.Exited && o.Engine == id {
			p.t.Fatalf("engine %s ended before it started: %+v", id, o.Exit)
		}
		return o.Kind == driver.Started && o.Engine == id
	})
}

func (p *place) awaitExit(id engine.ID) engine.Exit {
	p.t.Helper()
	o := p.await("exit of "+string(id), func(o driver.Observation) bool { return o.Kind == driver.Exited && o.Engine == id })
	if o.Exit == nil {
		p.t.Fatalf("observation of the exit of %s without exit", id)
	}
	return *o.Exit
}

// worker makes the spec of a worker; steps that the engines cannot do skip the case.
func (p *place) worker(steps ...Step) driver.Spec { return p.make(engine.RoleWorker, steps...) }

func (p *place) make(role engine.Role, steps ...Step) driver.Spec {
	p.t.Helper()
	prog, err := p.w.f.Express(steps...)
	if errors.Is(err, ErrCannot) {
		p.t.Skipf("capability steps: %s: %v", p.w.d.Capabilities().Name, err)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	master := p.main.Address
	if p.spec.Attached != nil {
		master = p.s.Address()
	}
	spec := driver.Spec{
		Name: string(role), Role: role, Master: master,
		Argv: prog.Argv, Private: Private, Files: prog.Files, Env: append([]string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, prog.Env...),
		Dir: p.project, Visible: append([]string{p.project}, prog.Visible...), Shared: append([]string{p.project}, prog.Visible...),
		Resources: engine.Resources{CPU: 1, MemoryBytes: 500e6}, UID: p.w.f.UID, GID: p.w.f.GID, Groups: p.w.f.Groups,
	}
	if p.w.how != cold && role == engine.RoleWorker {
		at := p.seat(spec)
		spec.ID, spec.Address, spec.Work = at.ID, at.Address, aheadWork(spec)
	} else {
		addrs, err := p.s.Reserve(1)
		if err != nil || len(addrs) != 1 {
			p.t.Fatalf("reserve 1 address: %v, %v", addrs, err)
		}
		spec.ID, spec.Address = engine.NewID(), addrs[0]
	}
	spec.Hostname = string(spec.ID)
	if role == engine.RoleSession {
		spec.Master, spec.Resources.MemoryBytes = spec.Address, 0
		p.main = spec
	}
	return spec
}

// start starts engines that must be accepted.
func (p *place) start(specs ...driver.Spec) {
	p.t.Helper()
	for i, err := range p.s.Start(p.t.Context(), p.works(specs)) {
		if err != nil {
			p.t.Fatalf("start %s: %v", specs[i].ID, err)
		}
	}
}

// startMain starts the session's own engine and waits until it runs.
func (p *place) startMain(steps ...Step) driver.Spec {
	p.t.Helper()
	if len(steps) == 0 {
		steps = []Step{Hang{}}
	}
	spec := p.make(engine.RoleSession, steps...)
	p.start(spec)
	p.awaitStarted(spec.ID)
	return spec
}

// run starts a worker and waits for its end.
func (p *place) run(steps ...Step) (driver.Spec, engine.Exit) {
	p.t.Helper()
	spec := p.worker(steps...)
	p.start(spec)
	return spec, p.awaitExit(spec.ID)
}

// text is what an engine has written to a stream so far.
func (p *place) text(id engine.ID, stream console.Stream) string {
	p.t.Helper()
	var b strings.Builder
	for _, r := range p.records(id) {
		if r.Stream == stream {
			b.Write(r.Payload)
		}
	}
	return b.String()
}

func (p *place) records(id engine.ID) []console.Record {
	p.t.Helper()
	log, err := console.Open(p.spec.ConsoleDir)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := log.Engine(string(id), "")
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	var all []console.Record
	for {
		r, _, err := c.Next(nil)
		if err == io.EOF {
			return all
		}
		if err != nil {
			p.t.Fatalf("read the console of %s: %v", id, err)
		}
		r.Payload = append([]byte(nil), r.Payload...)
		all = append(all, r)
	}
}

// awaitText waits until an engine has written what is asked to stdout.
func (p *place) awaitText(id engine.ID, want string) {
	p.t.Helper()
	deadline := time.After(Deadline)
	for {
		rung := p.bell.Chan()
		if strings.Contains(p.text(id, console.Stdout), want) {
			return
		}
		select {
		case <-rung:
		case <-deadline:
			p.t.Fatalf("engine %s did not write %q within %v: stdout %q, stderr %q; observed: %s", id, want, Deadline,
				p.text(id, console.Stdout), p.text(id, console.Stderr), p.story())
		}
	}
}

// events of an engine in its console.
func (p *place) events(id engine.ID) []api.Event {
	p.t.Helper()
	var all []api.Event
	for _, r := range p.records(id) {
		if r.Stream == console.Event {
			var e api.Event
			if err := json.Unmarshal(r.Payload, &e); err != nil {
				p.t.Errorf("event %q: %v", r.Payload, err)
			}
			all = append(all, e)
		}
	}
	return all
}

func (p *place) expectStdout(id engine.ID, want string) {
	p.t.Helper()
	if got := p.text(id, console.Stdout); got != want {
		p.t.Errorf("stdout %q, want %q; stderr %q", got, want, p.text(id, console.Stderr))
	}
}
