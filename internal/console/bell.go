package console

import "sync"

// Bell tells any number of waiting readers that there may be something new. The pattern that loses no wake-up:
//
//	for {
//		rung := bell.Chan()     // first take the channel,
//		... Next until io.EOF   // then read to the end,
//		<-rung                  // then wait: a Ring since Chan has closed it already
//	}
//
// Follow is that loop. The zero Bell works; a nil Bell never rings.
type Bell struct {
	mu sync.Mutex
	ch chan struct{} // nil: nobody has asked since the last Ring
}

// NewBell returns a Bell that nobody waits for.
func NewBell() *Bell { return &Bell{} }

// Ring wakes everyone who waits. It never blocks, and costs little when nobody waits.
func (b *Bell) Ring() {
	b.mu.Lock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
	b.mu.Unlock()
}

// Chan returns a channel that the next Ring closes.
func (b *Bell) Chan() <-chan struct{} {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}
