package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// report is what a run came to.
type report struct {
	faults     int
	violations []string
	lines      int
	times      map[string][]time.Duration
}

// newChaos makes a world, and who breaks it.
func newChaos(o options) (*chaos, error) {
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	w, err := newWorld(o)
	if err != nil {
		return nil, err
	}
	operator := &operator{w: w, api: w.api(w.socket())}
	return &chaos{
		world: w, operator: operator, crew: &crew{w: w, operator: operator},
		ownNetwork: network, networks: map[string]bool{}, engines: map[string]bool{}, workersOf: map[string][]string{}, ends: map[string]int{},
	}, nil
}

// run makes a whole run and prints its table. An error says that it could not be made.
func run(o options) (report, error) {
	c, err := newChaos(o)
	if err != nil {
		return report{}, err
	}
	w := c.world
	w.say("seed %d: %d workers, %d faults in %v; files in %s", o.seed, o.workers, o.faults, o.length, w.root)
	if c.proxy, err = w.newProxy(); err != nil {
		return report{}, err
	}
	c.crew.proxy, c.crew.slots = c.proxy, slots(o.seed, o.workers)
	if err := c.operator.up(); err != nil {
		return report{}, err
	}
	c.crew.start()
	c.awaitCrew()
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(stop)
	}()
	stopped := c.interruptible()
	c.script()
	stopped()
	c.end()
	close(stop)
	<-watched
	c.table()
	if len(w.violations) > 0 {
		w.o.keep = true
	}
	return report{faults: c.made(), violations: w.violations}, w.close()
}

// interruptible lets Ctrl-C end the faults: what is under way comes to its end and is checked.
func (c *chaos) interruptible() (stop func()) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	c.interrupted = ctx
	return cancel
}

// awaitCrew waits until most workers print: faults are to meet a full house.
func (c *chaos) awaitCrew() {
	from := time.Now()
	enough := func() bool {
		names, _ := os.ReadDir(filepath.Join(c.project, "notes"))
		return len(names) >= c.o.workers*9/10
	}
	for end := time.Now().Add(4 * deadline); !enough(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			c.violate("the workers are not up within %v", 4*deadline)
			return
		}
	}
	c.say("%d workers print after %v", c.o.workers*9/10, time.Since(from).Round(time.Millisecond))
}

// end lets everything come to its end and checks it.
func (c *chaos) end() {
	c.say("faults are over: everything comes to its end")
	if err := c.crew.finish(); err != nil {
		c.violate("%v", err)
	}
	api := c.told()
	c.stop(syscall.SIGTERM)
	db, err := readDatabase(filepath.Join(c.state, "muster.db"))
	if err == nil {
		err = db.whole()
	}
	if err != nil {
		c.violate("%v", err)
	}
	if db.Live != 0 {
		c.violate("the records say that %d sessions live", db.Live)
	}
	for _, x := range c.crew.sessions {
		c.verify(x, api, db.Ends)
	}
	c.proxy.close()
	var left []string
	if !until(func() bool { left = c.left(); return len(left) == 0 }) {
		for _, l := range left {
			c.violate("left: %s", l)
		}
	}
	c.readServerLog()
}

// told asks the server how everything ended.
func (c *chaos) told() map[string]ending {
	ends := map[string]ending{}
	var sessions []sessionInfo
	over := func() bool {
		var err error
		if sessions, err = c.operator.api.sessions(); err != nil {
			return false
		}
		for _, s := range sessions {
			if !s.Ended {
				return false
			}
		}
		return true
	}
	if !until(over) {
		c.violate("the server says that sessions live which are over")
	}
	for _, s := range sessions {
		workers, err := c.operator.api.workers(s.ID)
		if err != nil {
			c.violate("workers of session %s: %v", s.ID, err)
		}
		for _, e := range workers {
			c.workersOf[s.ID] = append(c.workersOf[s.ID], e.ID)
		}
		for _, e := range append(workers, s.Engine) {
			ends[e.ID] = ending{Reason: e.Reason, Code: e.code()}
			c.engines[e.ID] = true
		}
	}
	return ends
}

// readServerLog looks for what a server never says when all is well.
func (c *chaos) readServerLog() {
	text, err := os.ReadFile(c.logName())
	if err != nil {
		c.violate("%v", err)
		return
	}
	for _, l := range splitLines(string(text)) {
		for _, bad := range []string{"panic:", "fatal error", "WARNING: DATA RACE"} {
			if len(l) >= len(bad) && l[:len(bad)] == bad {
				c.violate("the server's log says: %s", l)
			}
		}
	}
}

func (c *chaos) made() int {
	n := 0
	for name, k := range c.counts {
		if name[0] != '(' {
			n += k
		}
	}
	return n
}
