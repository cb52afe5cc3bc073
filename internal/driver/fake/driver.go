package fake

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

// World is where the places of fake drivers are: it outlives a Driver, as real processes outlive a server.
type World struct {
	mu     sync.Mutex
	places map[engine.ID]*place
}

// NewWorld returns an empty world.
func NewWorld() *World { return &World{places: map[engine.ID]*place{}} }

// Count tells what there is in the world, to compare before and after.
func (w *World) Count() map[string]int {
	n := map[string]int{"places": 0, "engines": 0, "addresses": 0, "listeners": 0}
	w.mu.Lock()
	places := make([]*place, 0, len(w.places))
	for _, p := range w.places {
		places = append(places, p)
	}
	w.mu.Unlock()
	for _, p := range places {
		p.count(n)
	}
	return n
}

// Vanish lets a place and its engines be gone without a word, as a machine that goes down takes them.
func (w *World) Vanish(id engine.ID) {
	p := w.place(id)
	p.silent.Store(true)
	p.end(context.Background(), 0, engine.Exit{}, "")
}

func (w *World) place(id engine.ID) *place {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.places[id]
}

// add enters p; false if there is one of that session already.
func (w *World) add(p *place) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.places[p.spec.ID] != nil {
		return false
	}
	w.places[p.spec.ID] = p
	return true
}

func (w *World) remove(id engine.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.places, id)
}

// Driver implements driver.Driver in this process.
type Driver struct {
	opts    Options
	closing context.Context // ends with Close
	close   context.CancelFunc

	mu       sync.Mutex
	watchers []*watcher
}

var _ driver.Driver = (*Driver)(nil)

// New returns a driver over o.World.
func New(o Options) *Driver {
	if o.World == nil {
		o.World = NewWorld()
	}
	d := &Driver{opts: o}
	d.closing, d.close = context.WithCancel(context.Background())
	return d
}

// World returns where the driver's places live.
func (d *Driver) World() *World { return d.opts.World }

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities {
	c := driver.Capabilities{
		Name: "fake", OwnAddress: true, MemoryLimit: true, Survives: true, ConnectWait: true, Attach: true, Terminal: true,
		Warnings: []string{"the fake driver runs no interpreter: it plays scripted programs"},
	}
	if d.opts.Claim != nil {
		d.opts.Claim(&c)
	}
	return c
}

// Probe implements driver.Driver: there are no programs here.
func (d *Driver) Probe(context.Context, engine.Probe) (stdout, stderr []byte, err error) {
	return nil, nil, engine.Errorf(engine.Unavailable, "the fake driver runs no programs")
}

// Open implements driver.Driver.
func (d *Driver) Open(ctx context.Context, spec driver.SessionSpec) (driver.Session, error) {
	s, err := d.open(ctx, spec)
	if err != nil && spec.Owner != nil {
		spec.Owner.Close() // taken over, whatever comes of it
	}
	return s, err
}

func (d *Driver) open(ctx context.Context, spec driver.SessionSpec) (driver.Session, error) {
	if err := pause(ctx, d.opts.delay(StepOpen, ofSession(spec.ID))); err != nil {
		return nil, err
	}
	if err := d.opts.fail(StepOpen, ofSession(spec.ID)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(spec.ConsoleDir, 0o700); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "make the console's folder: %w", err)
	}
	w, err := console.OpenWriter(spec.ConsoleDir)
	if err != nil {
		return nil, err
	}
	p := newPlace(d.opts, spec, w)
	if !d.opts.World.add(p) {
		w.Close()
		return nil, engine.Errorf(engine.Conflict, "session %s has a place already", spec.ID)
	}
	if err := errors.Join(p.attach(), p.holdLease(spec.Owner)); err != nil {
		d.opts.World.remove(spec.ID)
		w.Close()
		return nil, err
	}
	if err := d.watch(p, spec); err != nil {
		p.end(context.WithoutCancel(ctx), 0, engine.Exit{Reason: engine.ReasonStopped, Message: err.Error()}, "")
		return nil, err
	}
	return &session{p, d.closing}, nil
}

// Recover implements driver.Driver.
func (d *Driver) Recover(ctx context.Context, spec driver.SessionSpec, h driver.Handle) (driver.Session, error) {
	if spec.Owner != nil {
		spec.Owner.Close() // the place holds its lease already
	}
	p := d.opts.World.place(h.Session)
	if p == nil {
		return nil, engine.Errorf(engine.NotFound, "session %s has no place any more", h.Session)
	}
	for _, o := range p.settle(spec.Reserved) {
		if spec.Observe != nil {
			spec.Observe(o)
		}
	}
	if err := d.watch(p, spec); err != nil {
		return nil, err
	}
	p.caughtUp()
	return &session{p, d.closing}, nil
}

// Place is a session's place, for tests that act behind the back of whoever opened it; false if there is none.
func (d *Driver) Place(id engine.ID) (driver.Session, bool) {
	p := d.opts.World.place(id)
	return &session{p, d.closing}, p != nil
}

func (d *Driver) watch(p *place, spec driver.SessionSpec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing.Err() != nil {
		return engine.Errorf(engine.Unavailable, "the fake driver is closed")
	}
	d.watchers = append(d.watchers, p.watch(spec, &d.opts))
	return nil
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Handle, error) {
	w := d.opts.World
	w.mu.Lock()
	defer w.mu.Unlock()
	hs := make([]driver.Handle, 0, len(w.places))
	for id, p := range w.places {
		hs = append(hs, driver.Handle{Version: 1, Session: id, Ephemeral: p.spec.Ephemeral})
	}
	return hs, nil
}

// Close implements driver.Driver: engines go on, nobody is told of them any more.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.close()
	ws := d.watchers
	d.watchers = nil
	d.mu.Unlock()
	for _, w := range ws {
		w.stop()
	}
	return nil
}

// pause waits, or returns why nobody wants to wait any more.
func pause(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
