// Package turns bounds what the server lets programs do that engines may have written: a few run at once, of each lane (such as
// a project) one at a time, so that nobody's program holds up another's, and a failure is the answer for a while. Packages
// kernel and clients import it; it looks at nothing of ours.
package turns

import (
	"context"
	"sync"
	"time"
)

const (
	// refusedFor is how long a failure is the answer: a launch of many workers asks once.
	refusedFor  = 5 * time.Second
	maxRefusals = 1000
)

// Turns is who has a turn, and what was refused a moment ago. Its methods are safe for concurrent use.
type Turns struct {
	slots chan struct{}

	mu       sync.Mutex
	lanes    map[string]*lane
	refusals map[string]refusal
}

// lane is one at a time; it is removed with the last who waits for it.
type lane struct {
	turn  chan struct{}
	users int
}

type refusal struct {
	err  error
	till time.Time
}

// New returns turns of which so many are had at once.
func New(atOnce int) *Turns {
	return &Turns{slots: make(chan struct{}, atOnce), lanes: map[string]*lane{}, refusals: map[string]refusal{}}
}

// Begin waits for the lane's turn and for room. done ends the turn.
func (t *Turns) Begin(ctx context.Context, name string) (done func(), err error) {
	t.mu.Lock()
	l := t.lanes[name]
	if l == nil {
		l = &lane{turn: make(chan struct{}, 1)}
		t.lanes[name] = l
	}
	l.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(t.lanes, name)
		}
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	select {
	case t.slots <- struct{}{}:
		return func() { <-t.slots; <-l.turn; leave() }, nil
	case <-ctx.Done():
		<-l.turn
		leave()
		return nil, ctx.Err()
	}
}

// Refused is the error with which key was answered a moment ago, nil if it was not.
func (t *Turns) Refused(key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.refusals[key]
	if time.Now().After(r.till) {
		return nil
	}
	return r.err
}

// Refuse makes an error the answer for key.
func (t *Turns) Refuse(key string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for k, r := range t.refusals {
		if now.After(r.till) {
			delete(t.refusals, k)
		}
	}
	if len(t.refusals) < maxRefusals {
		t.refusals[key] = refusal{err, now.Add(refusedFor)}
	}
}
