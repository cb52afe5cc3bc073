package main

import (
	"math/rand"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// start starts a server and measures until it answers, and until it tells of all sessions that live.
func (c *chaos) start(what string, args ...string) {
	from := time.Now()
	if err := c.operator.up(args...); err != nil {
		c.violate("%v", err)
		return
	}
	c.took(what+" → answers", time.Since(from))
	lives, missing := c.crew.live(), ""
	listed := func() bool {
		all, err := c.operator.api.sessions()
		if err != nil {
			return false
		}
		live := map[string]bool{}
		for _, s := range all {
			live[s.ID] = !s.Ended
		}
		for _, x := range lives {
			if !live[x.id] && c.stillLives(x) {
				missing = x.name
				return false
			}
		}
		return true
	}
	if !until(listed) {
		c.violate("after %s the server does not tell of session %s, which lives", what, missing)
	}
	c.took(what+" → all sessions listed", time.Since(from))
}

// stillLives reports whether nothing has been done to a session meanwhile.
func (c *chaos) stillLives(x *session) bool {
	for _, l := range c.crew.live() {
		if l == x {
			return true
		}
	}
	return false
}

func (c *chaos) stop(s syscall.Signal) {
	if err := c.operator.end(s); err != nil {
		c.violate("%v", err)
	}
}

func killServer(c *chaos, r *rand.Rand) string {
	c.stop(syscall.SIGKILL)
	time.Sleep(between(r, 0, 400*time.Millisecond))
	c.start("server: killed, up")
	return ""
}

func pauseServer(c *chaos, r *rand.Rand) string {
	server := hold([]proc{{pid: c.operator.pid()}})
	defer server.close()
	server.signal(unix.SIGSTOP)
	time.Sleep(between(r, 100*time.Millisecond, time.Second))
	from := time.Now()
	server.signal(unix.SIGCONT)
	if !until(c.operator.api.answers) {
		c.violate("the server does not answer after SIGCONT")
	}
	c.took("server: SIGCONT → answers", time.Since(from))
	return ""
}

func replaceServer(c *chaos, _ *rand.Rand) string {
	o := c.operator
	o.mu.Lock()
	o.wanted = true
	old, done := o.cmd, o.done
	o.mu.Unlock()
	c.start("server: up --replace", "--replace")
	if !until(func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}) {
		c.violate("the server that was replaced does not end")
		old.Process.Kill()
	} else if code := old.ProcessState.ExitCode(); code != 0 {
		c.violate("the server that was replaced ended with %v", old.ProcessState)
	}
	return ""
}

func letGo(c *chaos, _ *rand.Rand) string {
	c.stop(syscall.SIGUSR1)
	c.start("server: let go, up")
	return ""
}

func killServerThenWorker(c *chaos, r *rand.Rand) string {
	c.stop(syscall.SIGKILL)
	defer c.start("server: killed, up")
	return killInterpreter(c, r)
}

func killServerThenSession(c *chaos, r *rand.Rand) string {
	x, ok := c.victim(r, kindRun, kindAttached)
	if !ok {
		return "no session"
	}
	c.stop(syscall.SIGKILL)
	return c.endSession(x, "session: held by a process that was killed while there was no server → gone", causeHolder,
		func(held) { x.cmd.Process.Kill() }, func() { c.start("server: killed, up") })
}

func killServerAndKeeper(c *chaos, r *rand.Rand) string {
	x, ok := c.victim(r, kindRun, kindLink, kindAttached)
	if !ok {
		return "no session"
	}
	return c.endSession(x, "server and keeper killed → session gone", causeKeeper, func(keeper held) {
		keeper.signal(unix.SIGKILL)
		c.stop(syscall.SIGKILL)
	}, func() { c.start("server: killed, up") })
}
