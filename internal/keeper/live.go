package keeper

import (
	"encoding/json"
	"fmt"
	"time"

	"muster/internal/console"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
)

// live goes with the engine from its start to its end: it hears its init, waits until every process of it is gone, but an init that is
// alone, and its output is complete, and then says how it ended.
func (e *engine) live() {
	if e.ahead == nil {
		e.carry()
	}
	if e.early {
		e.kill() // a stop was asked for while the init was being started
	}
	heard := e.hear()
	e.lost()
	alone := heard.exited != nil && heard.exited.Alone
	if !alone {
		e.control.Close()
		e.endRest()
	}
	if e.ahead != nil && e.neverGiven() {
		if alone {
			e.endInit()
		}
		e.discard()
		return
	}
	if e.ahead != nil && !heard.started {
		e.carry() // it had work, and came to nothing
	}
	for _, p := range e.pumps {
		p.finish() // all of them before any is waited for: one may hold up another
	}
	for _, p := range e.pumps {
		<-p.done
	}
	e.hangUp()
	exit := judge(e.evidence(heard))
	failpoint.Here("keeper: before exit record")
	e.record(exit)
	failpoint.Here("keeper: after exit record")
	e.keeper.exited(e, exit, func() {
		if alone {
			e.endInit()
		}
		e.clean()
	})
}

// endInit ends an init that has said its last word.
func (e *engine) endInit() {
	e.control.Close()
	e.kill() // it may have been stopped
	e.endRest()
}

// endRest waits for the end of the init and of all that ends with it.
func (e *engine) endRest() {
	e.process.wait()
	if e.process.fd != nil {
		e.keeper.spawner.ended()
	}
	e.keeper.endStrays(e.pid())
}

// carry begins to carry the engine's output into its log, and to watch over its memory. Of one that waited for work it begins with that:
// what an interpreter has printed which did not take it is taken back before.
func (e *engine) carry() {
	for _, p := range e.pumps {
		go p.run()
	}
	e.watchMemory()
}

// heard is what an init reported.
type heard struct {
	started bool
	failed  *wire.Failed
	exited  *wire.Exited
}

// hear receives the init's reports until the last one, or its end.
func (e *engine) hear() (h heard) {
	for {
		var r wire.Report
		files, err := e.control.Receive(&r)
		if err != nil {
			return h
		}
		switch {
		case r.Notice != "":
			e.keeper.noticeOnce(r.Notice)
		case r.Terminal && len(files) == 1:
			e.setTerminal(files[0])
		case r.Ready:
			e.keeper.isReady(e, r.Apart, files)
		case r.Lost != nil:
			e.ahead.signal = r.Lost.Signal
			if r.Lost.Code == wire.StaleCode {
				e.ahead.server.put(wire.Event{Kind: wire.EventStale, Engine: e.id, At: time.Now()})
			}
			e.lost()
			e.keeper.drop(e.id) // unless it has its work
		case r.Started && e.ahead != nil && e.keeper.waits(e):
			e.keeper.drop(e.id) // it says that it took what it was not given
		case r.Started:
			h.started = true
			if e.ahead != nil {
				e.took()
				e.carry()
			}
			e.keeper.started(e)
			e.limitTime()
		case r.Failed != nil:
			h.failed = r.Failed
			if e.ahead != nil {
				e.ahead.signal = 0
			}
		case r.Exited != nil:
			h.exited = r.Exited
			e.mu.Lock()
			e.over = true
			e.mu.Unlock()
			if r.Exited.Alone {
				return h
			}
		}
	}
}

// watchMemory ends the whole engine when the kernel killed one process of it at the memory limit: an engine that limps on
// without one of its processes helps nobody.
func (e *engine) watchMemory() {
	if e.group == nil || e.limit == 0 {
		return
	}
	events, err := e.group.OOMEvents()
	if err != nil {
		return // the counter is read at the end all the same
	}
	e.memory = events
	go func() {
		if _, err := events.Wait(); err != nil {
			return // the engine is over
		}
		e.mu.Lock()
		e.outOf = true
		e.mu.Unlock()
		e.kill()
	}()
}

// event is the payload of a record of stream event, as package api defines it.
type event struct {
	Type    string  `json:"type"`
	Engine  string  `json:"engine"`
	Name    string  `json:"name,omitempty"`
	Role    string  `json:"role,omitempty"`
	Address string  `json:"address,omitempty"`
	Message string  `json:"message,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	Code    *int    `json:"code,omitempty"`
	Status  string  `json:"status,omitempty"`
	Ending  *ending `json:"ending,omitempty"` // of an exit
}

// ending is for a server that comes when this keeper is gone.
type ending struct {
	Started *time.Time `json:"started,omitempty"` // nil: its interpreter was not started
	Exit    *wire.Exit `json:"exit"`
}

func (v event) json() []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain strings always encode
	}
	return b
}

// record writes the end of the engine to its log, as its last record.
func (e *engine) record(x *wire.Exit) {
	v := event{
		Type: "exit", Engine: e.id, Message: x.Message, Reason: x.Reason, Code: &x.Code, Status: statusOf(x.Reason), Ending: &ending{Exit: x},
	}
	e.keeper.mu.Lock()
	if at := e.startedAt; !at.IsZero() {
		v.Ending.Started = &at
	}
	e.keeper.mu.Unlock()
	if err := e.log.Append(console.Event, 0, x.At, v.json()); err != nil {
		e.keeper.notice(fmt.Sprintf("the end of engine %s could not be written to its log: %v", e.id, err))
	}
	e.log.Close()
	e.keeper.wrote()
}

// statusOf is engine.Exit.Status for this wire.
func statusOf(reason string) string {
	switch reason {
	case "succeeded":
		return "succeeded"
	case "stopped", "session ended":
		return "stopped"
	case reasonTimeLimit:
		return "timedout"
	default:
		return "failed"
	}
}

// letGo lets whoever likes remove the group.
func (e *engine) letGo() {
	if e.held != nil {
		e.held.Close()
	}
}

// removeGroup removes the cgroup. Everything that used it is gone.
func (e *engine) removeGroup() {
	if e.group == nil {
		return
	}
	if err := e.group.Remove(); err != nil {
		e.keeper.notice(fmt.Sprintf("the cgroup of engine %s could not be removed: %v", e.id, err))
	}
	e.letGo()
}

// tidyAfter is how long the folders of an engine that has ended stay: nobody waits for their end, and others may be beginning just now.
const tidyAfter = time.Second

// clean removes the cgroup, and the folders a moment later, at the latest when the session ends.
func (e *engine) clean() {
	e.removeGroup()
	failpoint.Here("keeper: after clean")
	select {
	case <-time.After(tidyAfter):
	case <-e.keeper.over:
	}
	if err := e.removeFolders(); err != nil {
		e.keeper.notice(fmt.Sprintf("the folders of engine %s could not be removed: %v", e.id, err))
	}
}
