package fake

import "muster/internal/driver"

// watcher tells one observer everything that happened in a place, from the beginning.
type watcher struct {
	place   *place
	spec    driver.SessionSpec
	opts    *Options
	stopped bool // place.mu
	told    int  // place.mu: of the history
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
	for {
		o, ok := w.next()
		if !ok {
			return
		}
		if w.spec.Observe != nil {
			for _, o := range w.opts.deliver(o) {
				w.spec.Observe(o)
			}
		}
		w.place.mu.Lock()
		w.told++
		w.place.happened.Broadcast()
		w.place.mu.Unlock()
		if o.Kind == driver.Ended {
			return
		}
	}
}

func (w *watcher) next() (driver.Observation, bool) {
	p := w.place
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.history) <= w.told && !w.stopped {
		p.happened.Wait()
	}
	if w.stopped {
		return driver.Observation{}, false
	}
	return p.history[w.told], true
}

// caughtUp returns when the newest watcher was told all that has happened so far.
func (p *place) caughtUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, n := p.watchers[len(p.watchers)-1], len(p.history)
	for w.told < n && !w.stopped {
		p.happened.Wait()
	}
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
