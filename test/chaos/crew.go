package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kinds of sessions.
const (
	kindRun      = "muster run"            // held by its process
	kindLink     = "muster run by a proxy" // held by its connection, which the proxy cuts
	kindAttached = "attached python3"      // a process of the user's that imported cdsw
)

// session is one session from its start to its end.
type session struct {
	name, kind string
	code       int // what its script ends with by itself
	plans      map[string]plan
	cmd        *exec.Cmd
	done       chan struct{} // its process has ended
	follow     *follower

	mu     sync.Mutex
	id     string           // "": not known yet
	causes map[string]cause // of the ends of engines, by id; that of the session under ""
	over   time.Time        // since when nothing of it may live
}

// cause is what was done that ends an engine, when, and since when everything is known to be gone that was to go.
type cause struct {
	fault    string
	at, gone time.Time
}

// said is one line of what a session's script tells about itself.
type said struct {
	What    string   `json:"what"`
	ID      string   `json:"id"`
	Plan    string   `json:"plan"`
	N       int      `json:"n"`
	IDs     []string `json:"ids"`
	Message string   `json:"message"`
	Text    string   `json:"text"`
}

// hears returns what the session's script said so far.
func (w *world) hears(name string) []said {
	f, err := os.Open(filepath.Join(w.project, "said", name))
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []said
	for s := bufio.NewScanner(f); s.Scan(); {
		var v said
		if json.Unmarshal(s.Bytes(), &v) == nil {
			all = append(all, v)
		}
	}
	return all
}

// slot keeps one session running: when it ends, the next one begins.
type slot struct {
	number, workers int
	kind            string
	random          *rand.Rand
}

// crew is all sessions of the run.
type crew struct {
	w        *world
	operator *operator
	proxy    *proxy
	slots    []slot
	wg       sync.WaitGroup

	mu       sync.Mutex
	sessions []*session // all that ever began
	ending   bool       // no new ones
}

// slots shares the workers out: most sessions are of muster run, one comes by the proxy, the others are attached.
func slots(seed int64, workers int) []slot {
	n := max(3, min(8, workers/6))
	var all []slot
	for i := range n {
		kind := kindRun
		switch {
		case i == 1:
			kind = kindLink
		case i%4 == 2:
			kind = kindAttached
		}
		share := workers*(i+1)/n - workers*i/n
		all = append(all, slot{number: i, workers: share, kind: kind, random: rand.New(rand.NewSource(seed + int64(i) + 1))})
	}
	return all
}

func (c *crew) start() {
	for i := range c.slots {
		c.wg.Go(func() { c.keep(&c.slots[i]) })
	}
}

// keep runs one session after the other.
func (c *crew) keep(s *slot) {
	for round := 0; ; round++ {
		x := &session{
			name: fmt.Sprintf("s%d-%d", s.number, round), kind: s.kind, code: []int{0, 7, 99}[s.random.Intn(3)],
			plans: map[string]plan{}, done: make(chan struct{}), causes: map[string]cause{},
		}
		plans := plansFor(s.random, x.name, 400)
		for _, p := range plans {
			x.plans[p.Name] = p
		}
		if !c.enter(x) {
			return
		}
		end := []string{"", "stop"}[s.random.Intn(2)]
		if err := c.begin(x, s.workers, end, plans); err != nil {
			c.w.violate("session %s: %v", x.name, err)
			return
		}
		<-x.done
	}
}

// enter adds a session, unless no more are to begin.
func (c *crew) enter(x *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ending {
		c.sessions = append(c.sessions, x)
	}
	return !c.ending
}

// begin starts a session's process. An attached one would start a server if there were none, so it gets one that is there; the
// others must cope.
func (c *crew) begin(x *session, workers int, end string, plans []plan) error {
	if err := c.w.writePlans(x.name, plans); err != nil {
		return err
	}
	c.operator.lane.Lock()
	defer c.operator.lane.Unlock()
	switch x.kind {
	case kindRun:
		x.cmd = c.w.cmd("run", "--no-stdin", "--cpu", "0.1", "session.py")
	case kindLink:
		token, err := os.ReadFile(filepath.Join(c.w.runtime, "token"))
		if err != nil {
			return err
		}
		x.cmd = c.w.cmd("run", "--no-stdin", "--cpu", "0.1", "--server", "unix://"+c.proxy.path, "session.py")
		x.cmd.Env = append(x.cmd.Env, "MUSTER_TOKEN="+strings.TrimSpace(string(token)))
	case kindAttached:
		x.cmd = exec.Command("python3", "-u", "session.py")
		x.cmd.Dir, x.cmd.Env = c.w.project, append(append([]string{}, c.w.env...), "PYTHONPATH="+c.w.clients)
	}
	x.cmd.Env = append(x.cmd.Env, "CHAOS_SESSION="+x.name, "CHAOS_WORKERS="+strconv.Itoa(workers), "CHAOS_CODE="+strconv.Itoa(x.code),
		"CHAOS_END="+end)
	out, err := os.Create(filepath.Join(c.w.tape, x.name+".out"))
	if err != nil {
		return err
	}
	defer out.Close()
	errs, err := os.Create(filepath.Join(c.w.tape, x.name+".err"))
	if err != nil {
		return err
	}
	defer errs.Close()
	x.cmd.Stdout, x.cmd.Stderr, x.cmd.SysProcAttr = out, errs, &syscall.SysProcAttr{Setpgid: true}
	if err := x.cmd.Start(); err != nil {
		return err
	}
	go func() {
		x.cmd.Wait()
		close(x.done)
	}()
	return c.identify(x)
}

// identify waits until the session's script has said who it is, and follows its console from then on.
func (c *crew) identify(x *session) error {
	ended := false
	known := until(func() bool {
		select {
		case <-x.done:
			ended = true
		default:
		}
		for _, v := range c.w.hears(x.name) {
			if v.What == "began" {
				x.mu.Lock()
				x.id = v.ID
				x.mu.Unlock()
			}
		}
		return x.id != "" || ended
	})
	if x.id == "" && ended && c.w.wasFull(time.Now()) {
		return nil // refused, as it should
	}
	if !known || x.id == "" {
		said, _ := os.ReadFile(filepath.Join(c.w.tape, x.name+".err"))
		return fmt.Errorf("did not begin: %s", said)
	}
	x.follow = c.w.follow(x.id, c.proxy.path)
	return nil
}

// live returns the sessions that run and of whose end nothing is known.
func (c *crew) live() []*session {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*session
	for _, x := range c.sessions {
		x.mu.Lock()
		if _, ends := x.causes[""]; x.id != "" && !ends {
			all = append(all, x)
		}
		x.mu.Unlock()
	}
	return all
}

// doom notes what is being done to an engine ("": to the session), unless something is already. False: it is.
func (x *session) doom(engine, fault string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ends := x.causes[""]
	_, dies := x.causes[engine]
	if ends || dies {
		return false
	}
	x.causes[engine] = cause{fault: fault, at: time.Now()}
	return true
}

// dead notes that everything is gone that was to go.
func (x *session) dead(engine string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.causes[engine]
	c.gone = time.Now()
	x.causes[engine] = c
	if engine == "" {
		x.over = c.gone
	}
}

// finish lets all sessions come to their own ends.
func (c *crew) finish() error {
	c.mu.Lock()
	c.ending = true
	c.mu.Unlock()
	for _, x := range c.live() {
		x.doom("", causeOwn)
	}
	if err := os.WriteFile(filepath.Join(c.w.project, "finish"), nil, 0o600); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(2 * deadline):
		return fmt.Errorf("sessions that were asked to end did not within %v", 2*deadline)
	}
}
