package manager

// standing is the room at one moment, for messages.
type standing struct {
	all, free amount
	owned     amount // what sessions' own engines hold
	hard      bool
	head      *amount // what the first in the queue wants that is not stepped over; nil: nobody waits
}

func (r *room) standing() standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.standingLocked()
}

func (r *room) standingLocked() standing {
	s := standing{all: r.all, free: r.all.minus(r.used), owned: r.owned, hard: r.hard}
	for e := r.queue.Front(); e != nil && s.head == nil; e = e.Next() {
		if t := e.Value.(*ticket); t.want.fits(r.all.minus(r.owned), r.hard) && len(t.overLocked()) == 0 {
			s.head = &t.want
		}
	}
	return s
}

// watch says why a ticket waits, "" if it does not, and returns a channel that is closed when that may have changed.
func (r *room) watch(t *ticket) (why string, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.news == nil {
		r.news = make(chan struct{})
	}
	if t.state == ticketWaits {
		why = waitsFor(t, r.standingLocked())
	}
	return why, r.news
}

// crowd is the sentence for when more CPU is given than there is, which is no reason to wait where CPU is a share.
func (r *room) crowd() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := coresOf(r.used.cpu)
	asked := cores(sum)
	if sum >= mostCores {
		asked = cores(mostCores) + " or more"
	}
	return "workers ask for " + asked + " in all, this machine has " +
		number(coresOf(r.all.cpu)) + ": they share them"
}
