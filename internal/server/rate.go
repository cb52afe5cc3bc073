package server

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"muster/api"
	"muster/engine"
)

// How many requests one user, with all his sessions, or one session may send: far above what honest scripts do, which launch a
// few hundred times a second at most, and far below what would keep the server from the others.
const (
	requestsPerSecond = 1000
	requestsAtOnce    = 5000
	maxBuckets        = 10_000
)

// rates counts the requests of each sender.
type rates struct {
	perSecond, atOnce float64
	now               func() time.Time

	mu sync.Mutex
	of map[engine.ID]*bucket
}

// bucket is what a sender may still ask at once; it fills again with time.
type bucket struct {
	left float64
	at   time.Time
}

func newRates() *rates {
	return &rates{perSecond: requestsPerSecond, atOnce: requestsAtOnce, now: time.Now, of: map[engine.ID]*bucket{}}
}

// take is 0 if the sender may ask, else how long he has to wait.
func (r *rates) take(sender engine.ID) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b := r.of[sender]
	if b == nil {
		if len(r.of) >= maxBuckets {
			r.forgetLocked(now)
		}
		b = &bucket{left: r.atOnce, at: now}
		r.of[sender] = b
	}
	b.left = math.Min(r.atOnce, b.left+max(0, now.Sub(b.at).Seconds())*r.perSecond)
	b.at = now
	if b.left >= 1 {
		b.left--
		return 0
	}
	return time.Duration((1 - b.left) / r.perSecond * float64(time.Second))
}

// forgetLocked forgets who has not asked for so long that it makes no difference.
func (r *rates) forgetLocked(now time.Time) {
	for k, b := range r.of {
		if b.left+now.Sub(b.at).Seconds()*r.perSecond >= r.atOnce {
			delete(r.of, k)
		}
	}
}

// tooFast answers a request that comes too soon after others of its sender, and reports whether it did. The owner's never do.
func (s *Server) tooFast(w http.ResponseWriter, who Identity) bool {
	if who.Owner {
		return false
	}
	sender := engine.ID("user " + who.User.Name)
	if who.User == (engine.User{}) {
		sender = who.Session
	}
	wait := s.rates.take(sender)
	if wait == 0 {
		return false
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	writeError(w, &apiError{status: http.StatusTooManyRequests, body: api.Error{Kind: string(engine.Unavailable),
		Message: fmt.Sprintf("too many requests: more than %d a second for some time", int(s.rates.perSecond)),
		Hint:    "wait a second; one request can launch, await or stop many workers"}})
	return true
}
