package keeper

import (
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
)

// orderWithin bounds how long an init may take to read an order: one that was stopped from outside never does.
const orderWithin = 200 * time.Millisecond

// signal sends a signal to the interpreter's process group.
func (e *engine) signal(number int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.control == nil || e.over {
		return errNotFound
	}
	e.tellLocked()
	return e.control.SendWithin(orderWithin, wire.Order{Signal: number})
}

// stop ends the engine: SIGTERM, after grace SIGKILL. The first caller's reason counts, the shortest grace does.
func (e *engine) stop(grace time.Duration, reason, by string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked == nil && !e.over && !e.outOf {
		e.asked = &wire.Exit{Reason: reason, By: by}
	}
	if e.over && reason == reasonTimeLimit { // it was just in time
		return
	}
	if e.control == nil { // its init is being started: live sees asked
		return
	}
	if grace <= 0 {
		e.kill()
		return
	}
	at := time.Now().Add(grace)
	switch {
	case e.killing == nil:
		e.killing = time.AfterFunc(grace, e.kill)
	case at.Before(e.killAt):
		e.killing.Reset(grace)
	default:
		at = e.killAt
	}
	e.killAt = at
	e.tellLocked()
	e.control.SendWithin(orderWithin, wire.Order{Signal: int(unix.SIGTERM)})
	e.control.SendWithin(orderWithin, wire.Order{Signal: int(unix.SIGCONT)}) // a stopped process sees SIGTERM when it goes on
}

// limitTime begins the time that the engine may run. The clock is the machine's that never goes back, and stands still while the
// machine sleeps.
func (e *engine) limitTime() {
	if e.lasts <= 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ending = time.AfterFunc(e.lasts, func() { e.stop(limitGrace, reasonTimeLimit, "") })
}

// kill ends init and everything below it at once. Harmless when they have ended already.
func (e *engine) kill() {
	if !e.plain && e.zygote == nil {
		e.process.signal(unix.SIGKILL) // the kernel kills the whole process namespace with it
		return
	}
	e.control.Close()              // the init ends its descendants at this end of file
	e.process.signal(unix.SIGCONT) // unless it was stopped
}
