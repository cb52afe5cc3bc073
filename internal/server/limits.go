package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"muster/api"
	"muster/engine"
)

// Limits of what bodies may be. Decoded, a body is many times its size, and every engine can send them: what one session
// can make the server hold is bounded by maxSessionBody times largeAtOnce.
const (
	maxBodyBytes   = 16 << 20 // code and environments are text; files travel through the project folder
	maxSessionBody = 4 << 20
	largeBody      = 64 << 10 // a body is large from here on
	largeAtOnce    = 4        // large bodies of one session that are read and decoded at the same time; so for large replies
	bodyTimeout    = 30 * time.Second
)

// slots counts the large bodies, or the large replies, of each session.
type slots struct {
	mu sync.Mutex
	of map[engine.ID]*slot // by session, or by senderKey
}

type slot struct {
	taken chan struct{}
	users int // who has it or waits for it; without any it is forgotten
}

// take waits for a slot of the session until ctx ends, and returns what gives it back.
func (s *slots) take(ctx context.Context, session engine.ID) (release func(), err error) {
	s.mu.Lock()
	if s.of == nil {
		s.of = map[engine.ID]*slot{}
	}
	mine := s.of[session]
	if mine == nil {
		mine = &slot{taken: make(chan struct{}, largeAtOnce)}
		s.of[session] = mine
	}
	mine.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(s.of, session)
		}
	}
	select {
	case mine.taken <- struct{}{}:
		return func() { <-mine.taken; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, engine.Errorf(engine.Unavailable, "the session has too many large requests or replies under way (%d at once)", largeAtOnce).
			WithHint("ask for one after the other, and send large data through the project's folder")
	}
}

type bodyKey struct{}

// limitBody holds the body of a request to its limits while huma reads and decodes it.
func (s *Server) limitBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if r.Body == nil || r.Body == http.NoBody {
		next(ctx)
		return
	}
	b := &sentBody{
		ReadCloser: r.Body, s: s, who: identity(r.Context()), ctx: r.Context(),
		announced: r.ContentLength, control: http.NewResponseController(w),
	}
	b.limit = maxSessionBody
	if b.who.Person() {
		b.limit = maxBodyBytes
	}
	b.hurry() // for bodies that no handler asks for: net/http reads them before the connection's next request
	r.Body = b
	defer b.done()
	next(huma.WithValue(ctx, bodyKey{}, b))
}

// decoded is called when huma is done with the body.
func decoded(ctx context.Context) {
	if b, ok := ctx.Value(bodyKey{}).(*sentBody); ok {
		b.done()
	}
}

// sentBody is a request's body, read by one goroutine.
type sentBody struct {
	io.ReadCloser
	s         *Server
	ctx       context.Context
	who       Identity
	control   *http.ResponseController
	announced int64 // its size, if the sender told it
	limit     int64
	read      int64
	begun     bool
	release   func() // gives the slot back
}

func (b *sentBody) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		b.hurry() // huma has taken the deadline away
	}
	if b.announced > b.limit || b.read > b.limit {
		return 0, b.tooLarge()
	}
	if (b.announced > largeBody || b.read > largeBody) && b.release == nil && !b.who.Owner {
		if err := b.takeSlot(); err != nil {
			return 0, err
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if b.read > b.limit {
		return 0, b.tooLarge()
	}
	if err == io.EOF {
		// From here on net/http waits for the client's going away, takes a deadline that passes for it, and would break
		// off every await. Go 1.26 clears the deadline at this point by itself; that is not promised.
		b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *sentBody) takeSlot() error {
	ctx, cancel := context.WithTimeout(b.ctx, b.s.bodyTimeout)
	defer cancel()
	defer context.AfterFunc(b.s.closing, cancel)()
	release, err := b.s.large.take(ctx, senderKey(b.who))
	if err != nil {
		return err
	}
	b.release = release
	b.hurry()
	return nil
}

// senderKey tells senders apart whose requests take turns: sessions, and users.
func senderKey(who Identity) engine.ID {
	if who.Session != "" {
		return who.Session
	}
	return engine.ID("user " + who.User.Name)
}

// hurry gives the sender its time from now on.
func (b *sentBody) hurry() { b.control.SetReadDeadline(time.Now().Add(b.s.bodyTimeout)) }

// tooLarge reads on for a while, keeping nothing: most clients look for an answer only when they have sent everything.
func (b *sentBody) tooLarge() error {
	io.Copy(io.Discard, io.LimitReader(b.ReadCloser, maxBodyBytes))
	return &apiError{status: http.StatusRequestEntityTooLarge, body: api.Error{Kind: string(engine.Invalid),
		Message: fmt.Sprintf("the request's body is too large: at most %d MB are taken", b.limit>>20),
		Hint:    "send large data through the project's folder"}}
}

func (b *sentBody) done() {
	if b.release != nil {
		b.release()
		b.release = nil
	}
}
