package fake

import "muster/internal/driver"

// watcher tells one observer everything that happened in a place, from the beginning.
type watcher struct {
	place   *place
	spec    driver.SessionSpec
	opts    *Options
	stopped bool // place.mu
	done    chan struct{}
}

func (p *place) watch(spec driver.SessionSpec, opts *Options) *watcher {
	w := &watcher{place: p, spec: spec, opts: opts, done: make(chan struct{})}
	p.mu.Lock()
	p.watchers = append(p.watchers, w)
	p.mu.Unlock()
	go w.run()
	return w
}

// run ends with the Ended observation, or when the driver is closed.
func (w *watcher) run() {
	defer close(w.done)
	for i := 0; ; i++ {
		o, ok := w.next(i)
		if !ok {
			return
		}
		if w.spec.Observe != nil {
			for _, o := range w.opts.deliver(o) {
				w.spec.Observe(o)
			}
		}
		if o.Kind == driver.Ended {
			return
		}
	}
}

func (w *watcher) next(i int) (driver.Observation, bool) {
	p := w.place
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.history) <= i && !w.stopped {
		p.happened.Wait()
	}
	if w.stopped {
		return driver.Observation{}, false
	}
	return p.history[i], true
}

func (w *watcher) stop() {
	w.place.mu.Lock()
	w.stopped = true
	w.place.happened.Broadcast()
	w.place.mu.Unlock()
	<-w.done
}

// wrote tells all watchers that the console grew.
func (p *place) wrote() {
	p.mu.Lock()
	var fs []func()
	for _, w := range p.watchers {
		if !w.stopped && w.spec.Wrote != nil {
			fs = append(fs, w.spec.Wrote)
		}
	}
	p.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// observe adds to the place's history.
func (p *place) observe(o driver.Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history = append(p.history, o)
	p.happened.Broadcast()
}
