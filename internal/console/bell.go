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
	mu   sync.Mutex
	ch   chan struct{} // nil: nobody has asked since the last Ring
	said []Record      // the last of what Say was given
	all  int           // how many there ever were
}

// maxSaid bounds what Say keeps for readers that are behind.
const maxSaid = 64

// NewBell returns a Bell that nobody waits for.
func NewBell() *Bell { return &Bell{} }

// Ring wakes everyone who waits. It never blocks, and costs little when nobody waits.
func (b *Bell) Ring() {
	b.mu.Lock()
	b.ringLocked()
	b.mu.Unlock()
}

func (b *Bell) ringLocked() {
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// Say hands a record that is not in the log to everyone who follows now: for what cannot be written, such as that the disk
// is full.
func (b *Bell) Say(r Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, r)
	if len(b.said) > maxSaid {
		b.said = b.said[len(b.said)-maxSaid:]
	}
	b.all++
	b.ringLocked()
}

// since returns what was said after the first n, and how much that makes.
func (b *Bell) since(n int) ([]Record, int) {
	if b == nil {
		return nil, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Record(nil), b.said[max(0, len(b.said)-(b.all-n)):]...), b.all
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
