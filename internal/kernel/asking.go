package kernel

import (
	"context"
	"sync"
	"time"
)

// Asking a wrapper runs a program that engines may have written, with memory of its own beside theirs: a few run at once, and
// of one project one at a time.
const (
	askedAtOnce = 4
	// refusedFor is how long a wrapper's failure is its answer: a launch of many workers asks once.
	refusedFor = 5 * time.Second
)

// asking is who is being asked, and what was refused a moment ago.
type asking struct {
	slots chan struct{}

	mu       sync.Mutex
	lanes    map[string]*lane // by project
	refusals map[string]refusal
}

// lane is a project's turn; it is removed with the last who waits for it.
type lane struct {
	turn  chan struct{}
	users int
}

type refusal struct {
	err  error
	till time.Time
}

func newAsking() *asking {
	return &asking{slots: make(chan struct{}, askedAtOnce), lanes: map[string]*lane{}, refusals: map[string]refusal{}}
}

// begin waits for the project's turn and for room.
func (a *asking) begin(ctx context.Context, project string) (done func(), err error) {
	a.mu.Lock()
	l := a.lanes[project]
	if l == nil {
		l = &lane{turn: make(chan struct{}, 1)}
		a.lanes[project] = l
	}
	l.users++
	a.mu.Unlock()
	leave := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(a.lanes, project)
		}
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots; <-l.turn; leave() }, nil
	case <-ctx.Done():
		<-l.turn
		leave()
		return nil, ctx.Err()
	}
}

// refused is the error with which key was answered a moment ago, nil if it was not.
func (a *asking) refused(key string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.refusals[key]
	if time.Now().After(r.till) {
		return nil
	}
	return r.err
}

func (a *asking) refuse(key string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for k, r := range a.refusals {
		if now.After(r.till) {
			delete(a.refusals, k)
		}
	}
	if len(a.refusals) < maxResolved {
		a.refusals[key] = refusal{err, now.Add(refusedFor)}
	}
}
