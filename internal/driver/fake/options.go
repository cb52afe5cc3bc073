package fake

import (
	"time"

	"muster/engine"
	"muster/internal/driver"
)

// The steps at which Options.Fail and Options.Delay are asked, in the order in which a session and an engine pass them.
// Failing at StepAccept refuses the engine in Start's reply; failing later is observed as "launch failed".
const (
	StepOpen        = "open"
	StepListen      = "listen"
	StepReserve     = "reserve"
	StepAccept      = "accept"
	StepLimits      = "limits"
	StepSandbox     = "sandbox"
	StepInterpreter = "interpreter"
	StepZygote      = "zygote" // a session's; not made where it takes no time
)

// EngineSteps are the steps of one engine's start.
var EngineSteps = []string{StepAccept, StepLimits, StepSandbox, StepInterpreter}

// endGrace is how long engines have between SIGTERM and SIGKILL when their session ended without anybody's asking.
const endGrace = 500 * time.Millisecond

// limitGrace is the time between SIGTERM and SIGKILL at a time limit.
const limitGrace = 2 * time.Second

// connectWait is how long a young worker's connect to its master waits for a listener.
const connectWait = 30 * time.Second

// Options script what happens. The zero value is a driver that works. Functions must be safe for concurrent use.
type Options struct {
	World *World // where the places live; nil: a new one
	// Claim changes the declared capabilities; nil: what the fake can really do.
	Claim func(*driver.Capabilities)
	// Fail returns the error of a step, nil to go on. Of the steps that are the session's, the spec has the
	// session's ID alone.
	Fail func(step string, spec driver.Spec) error
	// Delay returns how long a step takes.
	Delay func(step string, spec driver.Spec) time.Duration
	// Deliver returns the observations to make in place of one: none loses it, two double it, and an earlier one kept
	// back misorders them. Called by one goroutine for each session.
	Deliver func(o driver.Observation) []driver.Observation
}

func (o *Options) fail(step string, spec driver.Spec) error {
	if o.Fail == nil {
		return nil
	}
	return o.Fail(step, spec)
}

func (o *Options) delay(step string, spec driver.Spec) time.Duration {
	if o.Delay == nil {
		return 0
	}
	return o.Delay(step, spec)
}

// ofSession is what Fail and Delay get to see of a session.
func ofSession(id engine.ID) driver.Spec { return driver.Spec{ID: id} }

func (o *Options) deliver(ob driver.Observation) []driver.Observation {
	if o.Deliver == nil {
		return []driver.Observation{ob}
	}
	return o.Deliver(ob)
}
