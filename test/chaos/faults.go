package main

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"time"
)

// fault is one way to break something. It returns "" when it was made, or why it could not be: there was nothing to break.
type fault struct {
	name   string
	weight int
	server bool // nobody else may do something to the server meanwhile
	make   func(c *chaos, r *rand.Rand) (skipped string)
}

var faults = []fault{
	{"server: kill -9", 14, true, killServer},
	{"server: SIGSTOP, SIGCONT", 6, true, pauseServer},
	{"server: up --replace", 6, true, replaceServer},
	{"server: let go (SIGUSR1), up", 3, true, letGo},
	{"server: kill -9, and a worker while it is down", 4, true, killServerThenWorker},
	{"server: kill -9, and a session's process while it is down", 1, true, killServerThenSession},
	{"server and keeper: kill -9", 1, true, killServerAndKeeper},
	{"worker: kill -9 of the interpreter", 15, false, killInterpreter},
	{"worker: kill -9 of the init", 10, false, killInit},
	{"worker: muster stop", 12, false, stopWorker},
	{"worker: SIGSTOP, SIGCONT", 6, false, pauseWorker},
	{"worker: muster stop of a stopped one", 3, false, stopPaused},
	{"session: kill -9 of its keeper", 1, false, killKeeper},
	{"session: kill -9 of muster run or python3", 2, false, killHolder},
	{"session: kill -9 of its interpreter", 1, false, killSession},
	{"session: muster stop", 1, false, stopSession},
	{"session: kill -9 of muster run, held by its connection", 1, true, killClient},
	{"link: cut", 10, true, cutLinks},
	{"link: half closed", 4, true, halfCloseLinks},
	{"link: slow", 2, false, slowLinks},
	{"disk: full", 1, false, fillDisk},
}

// chaos is a run under way.
type chaos struct {
	*world
	operator *operator
	proxy    *proxy
	crew     *crew
	disk     sync.Mutex
	clients  int // killed ones of sessions that are held by their connections

	interrupted context.Context
	ownNetwork  string
	networks    map[string]bool     // network namespaces of this run
	engines     map[string]bool     // all ids that the server knows
	workersOf   map[string][]string // those of sessions' workers

	lines, shown, launches, refused, resumed int
	ends                                     map[string]int // by reason
}

// script makes the faults of a run, evenly over its length, several at a time: first each kind once, then by their weights.
func (c *chaos) script() {
	r := rand.New(rand.NewSource(c.o.seed))
	chosen, total := c.choose()
	once := r.Perm(len(chosen))
	busy := make(chan struct{}, 12)
	var wg sync.WaitGroup
	from := time.Now()
	for i := range c.o.faults {
		time.Sleep(time.Until(from.Add(c.o.length * time.Duration(i) / time.Duration(c.o.faults))))
		if time.Since(from) > c.o.length || c.interrupted.Err() != nil {
			break
		}
		f, seed := pick(chosen, r.Intn(total)), r.Int63()
		if i < len(once) {
			f = chosen[once[i]]
		}
		busy <- struct{}{}
		wg.Go(func() {
			defer func() { <-busy }()
			c.one(f, rand.New(rand.NewSource(seed)))
		})
	}
	wg.Wait()
}

// choose leaves out what is not asked for.
func (c *chaos) choose() (chosen []fault, total int) {
	for _, f := range faults {
		for _, only := range strings.Split(c.o.only, ",") {
			if strings.Contains(f.name, only) {
				chosen, total = append(chosen, f), total+f.weight
				break
			}
		}
	}
	return chosen, total
}

func pick(chosen []fault, at int) fault {
	for _, f := range chosen {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	panic("weights do not add up")
}

func (c *chaos) one(f fault, r *rand.Rand) {
	if f.server {
		c.operator.lane.Lock()
		defer c.operator.lane.Unlock()
	}
	from := time.Now()
	if why := f.make(c, r); why != "" {
		c.count("(not made) " + f.name)
		return
	}
	c.count(f.name)
	c.say("fault    %s (%v)", f.name, time.Since(from).Round(time.Millisecond))
}

// some chooses one of n.
func some[T any](r *rand.Rand, all []T) (T, bool) {
	if len(all) == 0 {
		var none T
		return none, false
	}
	return all[r.Intn(len(all))], true
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int63n(int64(to-from)))
}

func cutLinks(c *chaos, _ *rand.Rand) string {
	if c.proxy.cut() == 0 {
		return "no links"
	}
	return ""
}

func halfCloseLinks(c *chaos, _ *rand.Rand) string {
	if c.proxy.halfClose() == 0 {
		return "no links"
	}
	return ""
}

func slowLinks(c *chaos, r *rand.Rand) string {
	c.proxy.slow(between(r, time.Millisecond, 20*time.Millisecond), between(r, time.Second, 3*time.Second))
	return ""
}

func fillDisk(c *chaos, r *rand.Rand) string {
	if !c.disk.TryLock() {
		return "it is full"
	}
	defer c.disk.Unlock()
	if err := c.fullFor(between(r, 500*time.Millisecond, 2*time.Second)); err != nil {
		return fmt.Sprint(err)
	}
	return ""
}
