package token

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/store"
)

var alice = engine.User{Name: "alice", UID: 20001}

func all(engine.User) bool { return true }

func of(u engine.User) func(engine.User) bool { return func(v engine.User) bool { return u == v } }

func open(t *testing.T, dir string) (*Registry, *store.Store) {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); s.Close() })
	return r, s
}

func create(t *testing.T, r *Registry, u engine.User, good time.Duration) (string, store.Token) {
	t.Helper()
	secret, kept, err := r.Create(u, "laptop", good)
	if err != nil {
		t.Fatal(err)
	}
	return secret, kept
}

// A token outlives the server, one that was revoked or has expired does not, and no file tells it.
func TestTokensAreKept(t *testing.T) {
	dir := t.TempDir()
	r, s := open(t, dir)
	hers, kept := create(t, r, alice, 0)
	owners, _ := create(t, r, engine.User{}, time.Hour)
	revoked, other := create(t, r, alice, 0)
	short, _ := create(t, r, alice, time.Second)
	if _, err := r.Revoke(other.ID, of(alice)); err != nil {
		t.Fatal(err)
	}
	if id, ok := r.Authenticate(hers); !ok || id != (engine.Identity{User: alice, Token: kept.ID}) {
		t.Errorf("%+v %v", id, ok)
	}
	if id, ok := r.Authenticate(owners); !ok || !id.Owner || id.Token == "" {
		t.Errorf("%+v %v", id, ok)
	}
	r.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{hers, owners, revoked, short} {
			if bytes.Contains(b, []byte(strings.TrimPrefix(secret, Prefix))) {
				t.Errorf("%s tells a token", f)
			}
		}
		if info, _ := os.Stat(f); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	again, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for secret, want := range map[string]bool{hers: true, owners: true, revoked: false, hers + "x": false, "": false, Prefix: false} {
		if _, ok := again.Authenticate(secret); ok != want {
			t.Errorf("after a restart: %v, want %v", ok, want)
		}
	}
	for _, found := range again.List(of(alice)) {
		if found.ID == kept.ID && (found.Used.IsZero() || found.Name != "laptop" || !found.Created.Equal(kept.Created)) {
			t.Errorf("%+v", found)
		}
	}
}

// The end of a token is told, and whoever looks then finds it worthless, on the disk as well.
func TestEndOfATokenIsTold(t *testing.T) {
	r, s := open(t, t.TempDir())
	secret, kept := create(t, r, alice, 0)
	until := r.Until(kept.ID)
	if _, err := r.Revoke(kept.ID, of(engine.User{Name: "bob", UID: 20002})); engine.KindOf(err) != engine.NotFound || until.Err() != nil {
		t.Errorf("another user's: %v, %v", err, until.Err())
	}
	if _, err := r.Revoke(kept.ID, of(alice)); err != nil {
		t.Fatal(err)
	}
	if until.Err() == nil || r.Until(kept.ID).Err() == nil {
		t.Error("nobody is told")
	}
	if left, err := s.Tokens(); err != nil || len(left) != 0 {
		t.Errorf("left on the disk: %v %v", left, err)
	}
	if _, ok := r.Authenticate(secret); ok {
		t.Error("it is still good")
	}
	short, kept := create(t, r, alice, time.Millisecond)
	select {
	case <-r.Until(kept.ID).Done():
	case <-time.After(30 * time.Second):
		t.Fatal("it does not expire")
	}
	if _, ok := r.Authenticate(short); ok {
		t.Error("it is still good")
	}
}

// What cannot be recorded did not happen: nobody is given a token that the next server does not know, and none is called revoked
// that the next one would take.
func TestNothingWithoutTheDisk(t *testing.T) {
	r, _ := open(t, t.TempDir())
	secret, kept := create(t, r, alice, 0)
	r.store = broken{r.store}
	if s, _, err := r.Create(alice, "", 0); err == nil || s != "" {
		t.Errorf("made: %v", err)
	}
	if _, err := r.Revoke(kept.ID, all); err == nil {
		t.Error("revoked")
	}
	if _, ok := r.Authenticate(secret); !ok {
		t.Error("the token that could not be revoked is worthless, and would be good again")
	}
}

type broken struct{ Store }

func (broken) AddToken(store.Token) error { return errors.New("no space left on device") }
func (broken) RemoveToken(string) error   { return errors.New("no space left on device") }

func TestTokensAreBounded(t *testing.T) {
	r, _ := open(t, t.TempDir())
	for range maxOfUser {
		create(t, r, alice, 0)
	}
	if _, _, err := r.Create(alice, "", 0); engine.KindOf(err) != engine.NoCapacity || !strings.Contains(engine.HintOf(err), "revoke") {
		t.Errorf("%v", err)
	}
	create(t, r, engine.User{Name: "bob", UID: 20002}, 0)
	if _, _, err := r.Create(engine.User{}, strings.Repeat("x", maxName+1), 0); engine.KindOf(err) != engine.Invalid {
		t.Errorf("%v", err)
	}
}

func TestTokensAtOnce(t *testing.T) {
	r, _ := open(t, t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			secret, kept, err := r.Create(alice, "", time.Hour)
			if err != nil {
				t.Error(err)
				return
			}
			until := r.Until(kept.ID)
			if _, ok := r.Authenticate(secret); !ok {
				t.Error("a fresh token is not good")
			}
			if _, err := r.Revoke(kept.ID, all); err != nil {
				t.Error(err)
			}
			<-until.Done()
		})
	}
	wg.Wait()
	if left := r.List(all); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// What has expired goes from the disk with the next token that is made: who makes one a second does not fill it.
func TestExpiredTokensLeaveTheDisk(t *testing.T) {
	r, s := open(t, t.TempDir())
	for range 3 {
		_, kept := create(t, r, alice, time.Nanosecond)
		<-r.Until(kept.ID).Done()
	}
	create(t, r, alice, 0)
	if left, err := s.Tokens(); err != nil || len(left) != 1 {
		t.Errorf("left: %+v %v", left, err)
	}
}

// A server whose disk is full begins all the same, and takes no token that has expired meanwhile.
func TestExpiredTokenOnAFullDisk(t *testing.T) {
	r, s := open(t, t.TempDir())
	secret, short := create(t, r, alice, time.Nanosecond)
	good, _ := create(t, r, alice, 0)
	<-r.Until(short.ID).Done()
	r.Close()
	again, err := Open(broken{s})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, ok := again.Authenticate(secret); ok {
		t.Error("it is still good")
	}
	if _, ok := again.Authenticate(good); !ok {
		t.Error("the other one is worthless")
	}
}

// slow takes its time to write.
type slow struct {
	Store
	begun, end chan struct{}
}

func (s slow) AddToken(t store.Token) error {
	close(s.begun)
	<-s.end
	return s.Store.AddToken(t)
}

// Nobody waits for the disk of whoever makes a token.
func TestMakingOneHoldsUpNobody(t *testing.T) {
	r, s := open(t, t.TempDir())
	secret, _ := create(t, r, alice, 0)
	disk := slow{s, make(chan struct{}), make(chan struct{})}
	r.store = disk
	var making sync.WaitGroup
	making.Go(func() {
		if _, _, err := r.Create(engine.User{}, "", 0); err != nil {
			t.Error(err)
		}
	})
	<-disk.begun
	known := make(chan bool, 1)
	go func() { _, ok := r.Authenticate(secret); known <- ok }()
	select {
	case ok := <-known:
		if !ok {
			t.Error("not known")
		}
	case <-time.After(30 * time.Second):
		t.Error("held up")
	}
	close(disk.end)
	making.Wait()
}
