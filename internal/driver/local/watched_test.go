package local

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/drivertest"
)

var deadline = drivertest.Deadline

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
		w.mu.Unlock()
		select {
		case <-changed:
		case <-late:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("not observed: %s of %q; observed: %+v", kind, id, w.seen)
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
		UID: os.Geteuid(), GID: os.Getegid(),
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

// awaitOutput waits until all that an engine wrote is text.
func (w *watched) awaitOutput(id engine.ID, text string) {
	w.t.Helper()
	for until := time.Now().Add(deadline); w.stdout(id) != text; <-time.After(5 * time.Millisecond) {
		if time.Now().After(until) {
			w.t.Fatalf("engine %s wrote %q, not %q", id, w.stdout(id), text)
		}
	}
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
	for _, name := range rungs() {
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
