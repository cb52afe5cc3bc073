package keeper

import (
	"errors"
	"fmt"
	"time"

	"muster/internal/console"
	"muster/internal/keeper/wire"
)

// attach begins the log of a session whose own process lives outside. To whoever asks for that engine it is one that has
// ended: it cannot be signalled or started, stopping it does nothing, and notes about it are written.
func (k *Keeper) attach(a wire.Attached) error {
	k.past[k.config.Session] = &past{id: k.config.Session, startedAt: time.Now()}
	return k.frame(event{Type: "engine", Engine: k.config.Session, Name: a.Name, Role: "session", Address: a.Address})
}

// farewell ends that log.
func (k *Keeper) farewell(x *wire.Exit) {
	err := k.frame(event{Type: "exit", Engine: k.config.Session, Message: x.Message, Reason: x.Reason, Status: statusOf(x.Reason), Ending: &ending{Exit: x}})
	if err != nil {
		k.notice(fmt.Sprintf("the end of the session could not be written to its log: %v", err))
	}
}

// frame appends an event of the session's own process.
func (k *Keeper) frame(v event) error {
	k.noting.Lock()
	defer k.noting.Unlock()
	log, err := k.console.Log(k.config.Session)
	if err != nil {
		return err
	}
	return k.noted(errors.Join(log.Append(console.Event, 0, time.Now(), v.json()), log.Close()))
}
