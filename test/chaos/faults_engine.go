package main

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is done that ends something, as the checker knows it.
const (
	causeKilled  = "its interpreter or init was killed"
	causeStopped = "it was stopped"
	causeKeeper  = "its keeper was killed"
	causeHolder  = "the process that held it was killed"
	causeSession = "the session's interpreter was killed"
	causeStop    = "the session was stopped"
	causeOwn     = "its own end"
)

// target is a worker that something is done to.
type target struct {
	session     *session
	engine      string
	procs       held // all of them
	init, first held
}

// aim chooses a worker that runs: it has printed, and nothing has been done to it.
func (c *chaos) aim(r *rand.Rand) (t target, ok bool) {
	lives := c.crew.live()
	if len(lives) == 0 {
		return t, false
	}
	t.session = lives[r.Intn(len(lives))]
	byEngine := map[string][]proc{}
	for _, p := range c.processes() {
		if p.session == t.session.id && !p.keeper && p.engine != p.session && c.prints(p.engine) {
			byEngine[p.engine] = append(byEngine[p.engine], p)
		}
	}
	var ids []string
	for id := range byEngine {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if t.engine, ok = some(r, ids); !ok {
		return t, false
	}
	ps := byEngine[t.engine]
	init, first := interpreter(ps)
	t.procs, t.init, t.first = hold(ps), hold([]proc{init}), hold([]proc{first})
	return t, len(t.init) == 1 && len(t.first) == 1
}

// prints reports whether a worker has printed and has not come to its end.
func (c *chaos) prints(engine string) bool {
	notes, err := os.ReadFile(filepath.Join(c.project, "notes", engine))
	return err == nil && len(notes) > 1 && notes[len(notes)-1] != 'x'
}

func (t target) close() {
	t.init.close()
	t.first.close()
}

// endWorker ends a worker and measures until its last process is gone.
func (c *chaos) endWorker(r *rand.Rand, what, why string, do func(target)) string {
	t, ok := c.aim(r)
	defer t.close()
	if !ok || !t.session.doom(t.engine, why) {
		t.procs.close()
		return "no worker"
	}
	from := time.Now()
	do(t)
	if !t.procs.gone() {
		c.violate("%s: engine %s of session %s is not gone within %v", what, t.engine, t.session.name, deadline)
	}
	c.took(what+" → gone", time.Since(from))
	t.session.dead(t.engine)
	return ""
}

func killInterpreter(c *chaos, r *rand.Rand) string {
	return c.endWorker(r, "worker: interpreter killed", causeKilled, func(t target) { t.first.signal(unix.SIGKILL) })
}

func killInit(c *chaos, r *rand.Rand) string {
	return c.endWorker(r, "worker: init killed", causeKilled, func(t target) { t.init.signal(unix.SIGKILL) })
}

func stopWorker(c *chaos, r *rand.Rand) string {
	return c.endWorker(r, "worker: muster stop", causeStopped, func(t target) { c.stopByCommand(t.engine) })
}

func stopPaused(c *chaos, r *rand.Rand) string {
	return c.endWorker(r, "worker: SIGSTOP, muster stop", causeStopped, func(t target) {
		t.procs.signal(unix.SIGSTOP)
		c.stopByCommand(t.engine)
	})
}

// stopByCommand calls muster stop until it was heard: a server may just be away.
func (c *chaos) stopByCommand(id string) {
	var said []byte
	ok := until(func() bool {
		var err error
		said, err = c.cmd("stop", id).CombinedOutput()
		return err == nil || strings.Contains(string(said), "there is no")
	})
	if !ok {
		c.violate("muster stop %s: %s", id, said)
	}
}

func pauseWorker(c *chaos, r *rand.Rand) string {
	t, ok := c.aim(r)
	defer t.close()
	defer t.procs.close()
	if !ok {
		return "no worker"
	}
	t.procs.signal(unix.SIGSTOP)
	time.Sleep(between(r, 100*time.Millisecond, 2*time.Second))
	t.procs.signal(unix.SIGCONT)
	return ""
}

// victim chooses a session that has workers, of one of these kinds.
func (c *chaos) victim(r *rand.Rand, kinds ...string) (*session, bool) {
	lives := slices.DeleteFunc(c.crew.live(), func(x *session) bool { return !slices.Contains(kinds, x.kind) })
	return some(r, lives)
}

// endSession ends a session and measures until its last process is gone: engines and keeper, and the process that held it, or
// showed it, ends too. do is given the keeper; after is called when it is done, before anything is waited for.
func (c *chaos) endSession(x *session, what, why string, do func(keeper held), after func()) string {
	if !x.doom("", why) {
		if after != nil {
			after()
		}
		return "it ends already"
	}
	var all, keeper []proc
	for _, p := range c.processes() {
		if p.session == x.id {
			all = append(all, p)
			if p.keeper {
				keeper = append(keeper, p)
			}
		}
	}
	h, k := hold(all), hold(keeper)
	defer k.close()
	from := time.Now()
	do(k)
	gone := make(chan bool, 1)
	go func() {
		gone <- h.gone()
		c.took(what, time.Since(from))
	}()
	if after != nil {
		after()
	}
	if !<-gone {
		c.violate("%s: session %s is not gone within %v", what, x.name, deadline)
	}
	x.dead("")
	if x.kind == kindAttached {
		x.cmd.Process.Kill() // it lives, but is no session any more
	}
	if !until(func() bool {
		select {
		case <-x.done:
			return true
		default:
			return false
		}
	}) {
		c.violate("%s: muster run of session %s did not end with it", what, x.name)
		x.cmd.Process.Kill()
	}
	return ""
}

func killKeeper(c *chaos, r *rand.Rand) string {
	x, ok := c.victim(r, kindRun, kindLink, kindAttached)
	if !ok {
		return "no session"
	}
	return c.endSession(x, "session: keeper killed → gone", causeKeeper, func(k held) { k.signal(unix.SIGKILL) }, nil)
}

func killHolder(c *chaos, r *rand.Rand) string {
	x, ok := c.victim(r, kindRun, kindAttached)
	if !ok {
		return "no session"
	}
	return c.endSession(x, fmt.Sprintf("session: %s killed → gone", x.kind), causeHolder, func(held) { x.cmd.Process.Kill() }, nil)
}

// killClient takes the longest: such a session's client may come back within 10 s of its going, or of the server's start. So the
// server is left alone meanwhile, and few of these are made.
func killClient(c *chaos, r *rand.Rand) string {
	x, ok := c.victim(r, kindLink)
	if !ok || c.clients >= 3 || c.o.length < time.Minute {
		return "no session"
	}
	c.clients++
	return c.endSession(x, "session: muster run by a proxy killed → gone (10 s of grace)", causeHolder, func(held) { x.cmd.Process.Kill() }, nil)
}

func killSession(c *chaos, r *rand.Rand) string {
	x, ok := c.victim(r, kindRun, kindLink)
	if !ok {
		return "no session"
	}
	var own []proc
	for _, p := range c.processes() {
		if p.engine == x.id {
			own = append(own, p)
		}
	}
	_, first := interpreter(own)
	h := hold([]proc{first})
	defer h.close()
	if len(h) == 0 {
		return "no interpreter"
	}
	return c.endSession(x, "session: interpreter killed → gone", causeSession, func(held) { h.signal(unix.SIGKILL) }, nil)
}

func stopSession(c *chaos, r *rand.Rand) string {
	x, ok := c.victim(r, kindRun, kindLink, kindAttached)
	if !ok {
		return "no session"
	}
	return c.endSession(x, "session: muster stop → gone", causeStop, func(held) { c.stopByCommand(x.id) }, nil)
}
