// Package token keeps the tokens that people make for themselves, to ask the server over TCP: who made one, until when it is
// good, and that it was revoked. What is kept of a token is its hash. One pass of SHA-256 is enough, and right, where a password
// would need a slow function: a token is 256 random bits, which nobody can try, whatever one try costs.
//
// The end of a token, by its date or by being revoked, is an event: whoever answers a request of it waits for Until. Packages app
// and server's Config know this package; it looks at engine and store.
package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io/fs"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"muster/engine"
	"muster/internal/store"
)

const (
	// Prefix begins every token: programs that look for leaked secrets, and people, then know what it is.
	Prefix = "muster_"
	// maxOfUser bounds what one user can have kept.
	maxOfUser = 100
	maxName   = 100
	// usedEvery is how exactly the last use is told and recorded: enough to find tokens that nobody needs, and no protocol of
	// when somebody works.
	usedEvery = time.Hour
)

// Store is where tokens are kept: *store.Store. What AddToken and RemoveToken have returned from, no power cut takes back.
type Store interface {
	AddToken(store.Token) error
	RemoveToken(id string) error
	UseToken(id string, at time.Time) error
	Tokens() ([]store.Token, error)
}

// Registry holds the tokens that are good. Its methods are safe for concurrent use.
type Registry struct {
	store Store
	now   func() time.Time

	making sync.Mutex // held while one is made: who makes one waits for the disk, and nobody else for that

	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*token
	byID   map[string]*token
	over   []string // expired, and still kept: removed before the next one is made
}

type token struct {
	store.Token
	until  context.Context // ends with the token
	end    context.CancelFunc
	expiry *time.Timer // nil: never
}

// Open reads the tokens that are kept.
func Open(s Store) (*Registry, error) {
	r := &Registry{store: s, now: time.Now, byHash: map[[sha256.Size]byte]*token{}, byID: map[string]*token{}}
	all, err := s.Tokens()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range all {
		if t.Expires.IsZero() || r.now().Before(t.Expires) {
			r.enterLocked(t)
		} else {
			r.over = append(r.over, t.ID)
		}
	}
	return r, nil
}

// Close ends what waits for a date. Tokens stay as they are.
func (r *Registry) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.byID {
		if t.expiry != nil {
			t.expiry.Stop()
		}
	}
}

func (r *Registry) enterLocked(kept store.Token) {
	t := &token{Token: kept}
	t.until, t.end = context.WithCancel(context.Background())
	r.byHash[t.Hash], r.byID[t.ID] = t, t
	if !t.Expires.IsZero() {
		t.expiry = time.AfterFunc(t.Expires.Sub(r.now()), func() {
			r.mu.Lock()
			r.over = append(r.over, t.ID)
			r.mu.Unlock()
			r.drop(t)
		})
	}
}

// drop makes a token worthless here, and ends what is done with it.
func (r *Registry) drop(t *token) {
	r.mu.Lock()
	delete(r.byHash, t.Hash)
	delete(r.byID, t.ID)
	r.mu.Unlock()
	if t.expiry != nil {
		t.expiry.Stop()
	}
	t.end()
}

// Create makes a token for a user (zero: the server's owner), good for a time (0: until it is revoked). The secret is told here
// and never again.
func (r *Registry) Create(u engine.User, name string, good time.Duration) (secret string, kept store.Token, err error) {
	if err := checkName(name); err != nil {
		return "", kept, err
	}
	if good < 0 {
		return "", kept, engine.Errorf(engine.Invalid, "a token cannot be good for %v", good)
	}
	var random [32]byte
	rand.Read(random[:]) // never fails: crypto/rand aborts the program instead
	secret = Prefix + new(big.Int).SetBytes(random[:]).Text(62)
	now := r.now()
	kept = store.Token{
		ID: strings.ToLower(rand.Text()[:10]), Hash: sha256.Sum256([]byte(secret)), Name: name, User: u, Created: now.UTC().Truncate(time.Second),
	}
	if good > 0 {
		kept.Expires = now.Add(good).UTC().Truncate(time.Second).Add(time.Second) // as it is kept, and not a moment less
	}
	r.making.Lock()
	defer r.making.Unlock() // what is on its way counts for the bound
	if n := len(r.List(func(v engine.User) bool { return u == v })); n >= maxOfUser {
		return "", kept, engine.Errorf(engine.NoCapacity, "there are %d tokens of this user already, which is the most", n).
			WithHint("revoke some: muster token ls, muster token revoke ID")
	}
	r.removeOver()
	if err := r.store.AddToken(kept); err != nil {
		return "", kept, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enterLocked(kept)
	return secret, kept, nil
}

// removeOver takes from the disk what has expired. What stays there is worthless, and tried again.
func (r *Registry) removeOver() {
	r.mu.Lock()
	over := r.over
	r.over = nil
	r.mu.Unlock()
	var left []string
	for _, id := range over {
		if err := r.store.RemoveToken(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			left = append(left, id)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = append(r.over, left...)
}

func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return engine.Errorf(engine.Invalid, "the token's name has %d bytes: at most %d are allowed", len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return engine.Errorf(engine.Invalid, "the token's name %q has characters that cannot be printed", name)
	}
	return nil
}

// List returns the tokens that mine picks, oldest first.
func (r *Registry) List(mine func(engine.User) bool) []store.Token {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []store.Token{}
	for _, t := range r.byID {
		if mine(t.User) {
			all = append(all, t.Token)
		}
	}
	slices.SortFunc(all, func(a, b store.Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// Revoke ends a token that mine picks, for good: it is on the disk when this returns, and what was being answered of it is being
// ended. Somebody else's does not exist.
func (r *Registry) Revoke(id string, mine func(engine.User) bool) (store.Token, error) {
	r.mu.Lock()
	t := r.byID[id]
	r.mu.Unlock()
	if t == nil || !mine(t.User) {
		return store.Token{}, engine.Errorf(engine.NotFound, "there is no token %q", id).WithHint("muster token ls shows their ids")
	}
	if err := r.store.RemoveToken(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return store.Token{}, err
	}
	r.drop(t)
	return t.Token, nil
}

// Authenticate tells who a token belongs to. It is looked up by its hash: how long that takes says nothing about a token that
// would be right.
func (r *Registry) Authenticate(secret string) (engine.Identity, bool) {
	if !strings.HasPrefix(secret, Prefix) {
		return engine.Identity{}, false
	}
	hash := sha256.Sum256([]byte(secret))
	now := r.now()
	r.mu.Lock()
	t := r.byHash[hash]
	if t == nil || !t.Expires.IsZero() && !now.Before(t.Expires) { // the clock may have been set
		r.mu.Unlock()
		return engine.Identity{}, false
	}
	id := engine.Identity{Owner: t.User == (engine.User{}), User: t.User, Token: t.ID}
	used := now.UTC().Truncate(usedEvery)
	fresh := used.After(t.Used)
	if fresh {
		t.Used = used
	}
	r.mu.Unlock()
	if fresh {
		r.store.UseToken(id.Token, used) // that it could not be recorded is no reason to turn anybody away
	}
	return id, true
}

// Until ends with the token; it has ended if there is none.
func (r *Registry) Until(id string) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.byID[id]; t != nil {
		return t.until
	}
	return ended
}

var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
