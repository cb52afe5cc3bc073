package keeper

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"muster/internal/console"
	"muster/internal/keeper/wire"
)

// past is what stays of an engine that has ended: a session may have a hundred thousand of them.
type past struct {
	id        string
	startedAt time.Time // zero: its interpreter was not started
	exit      *wire.Exit
}

// keptNotices is how many of the last notices a server that connects later is told.
const keptNotices = 20

// historyLocked is what a server that connects is told first. Of each engine the events are in order.
func (k *Keeper) historyLocked() []wire.Event {
	events := make([]wire.Event, 0, 2*len(k.order)+2*len(k.engines)+len(k.notices))
	started := func(id string, at time.Time, pid int) {
		if !at.IsZero() {
			events = append(events, wire.Event{Kind: wire.EventStarted, Engine: id, At: at, Pid: pid})
		}
	}
	for _, p := range k.order {
		started(p.id, p.startedAt, 0)
		events = append(events, wire.Event{Kind: wire.EventExited, Engine: p.id, At: p.exit.At, Exit: p.exit})
	}
	for _, e := range k.engines {
		events = append(events, wire.Event{
			Kind: wire.EventAccepted, Engine: e.id, At: time.Now(), Address: e.address, Hostname: e.hostname, GPUs: e.gpus, Cores: e.cores,
		})
		if !e.startedAt.IsZero() {
			started(e.id, e.startedAt, e.pid())
		}
	}
	events = append(events, k.notices...)
	if k.final != nil {
		events = append(events, *k.final)
	}
	return events
}

// exited makes the end of an engine known, and then has it cleaned up, for which the session's end waits. The end of the session's own
// engine is the session's.
func (k *Keeper) exited(e *engine, x *wire.Exit, clean func()) {
	k.mu.Lock()
	k.cleanup.Add(1) // before the session is without engines
	p := &past{id: e.id, startedAt: e.startedAt, exit: x}
	k.past[e.id] = p
	k.order = append(k.order, p)
	delete(k.engines, e.id)
	main := k.main == e.id
	k.tellLocked(wire.Event{Kind: wire.EventExited, Engine: e.id, Exit: x, At: x.At})
	k.mu.Unlock()
	go func() {
		defer k.cleanup.Done()
		clean()
	}()
	if main {
		k.endAfter(x)
	}
	k.endIfEmpty()
}

// note appends an event record that the server made, also to the log of an engine that has ended.
func (k *Keeper) note(id string, event json.RawMessage) error {
	k.mu.Lock()
	e, ended := k.engines[id], k.past[id] != nil
	k.mu.Unlock()
	switch {
	case e != nil && e.hasLog():
		err := e.log.Append(console.Event, 0, time.Now(), event)
		if !errors.Is(err, os.ErrClosed) { // it ends at this moment
			return k.noted(err)
		}
	case !ended:
		return errNotFound
	}
	k.noting.Lock()
	defer k.noting.Unlock()
	log, err := k.console.Log(id)
	if err != nil {
		return err
	}
	return k.noted(errors.Join(log.Append(console.Event, 0, time.Now(), event), log.Close()))
}

func (k *Keeper) noted(err error) error {
	if err == nil {
		k.wrote()
	}
	return err
}

// hasLog reports whether the engine was made so far that it can be written about.
func (e *engine) hasLog() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.control != nil && e.log != nil
}
