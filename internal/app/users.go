package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/linux/account"
	"muster/internal/linux/peer"
	"muster/internal/linux/rights"
	"muster/internal/server"
)

// users are the accounts of the machine, all of whom may use a shared server.
type users struct {
	takers rights.Takers

	mu    sync.Mutex
	names map[int]name // of those who asked lately
}

type name struct {
	text string
	at   time.Time
}

// nameHolds is how long a name is known without asking again: to ask may take a program, and everybody may connect.
const (
	nameHolds = time.Minute
	maxNames  = 10_000
)

func newUsers() *users { return &users{names: map[int]name{}} }

// nameOf is the name of a user of the machine.
func (u *users) nameOf(ctx context.Context, uid int) (string, error) {
	u.mu.Lock()
	known, ok := u.names[uid]
	u.mu.Unlock()
	if ok && time.Since(known.at) < nameHolds {
		return known.text, nil
	}
	text, err := account.NameOf(ctx, uid)
	if err != nil {
		return "", err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.names) >= maxNames {
		clear(u.names)
	}
	u.names[uid] = name{text, time.Now()}
	return text, nil
}

// mayShare says why this server cannot be shared. Where engines are plain processes they share ports, /tmp and the loopback, and
// with it whatever a user's web address or API is: only isolated engines of different users stay apart.
func mayShare(c config, caps driver.Capabilities) error {
	switch {
	case !c.shared:
		return nil
	case ownUID() != 0:
		return engine.Errorf(engine.Invalid, "only root can share a server: engines of other users are to run as those users").
			WithHint("start it as root, as a service of the machine, or without --shared for yourself")
	case !caps.Isolation:
		return engine.Errorf(engine.Unavailable, "a server that users share needs isolated engines, and here they would be plain processes").
			WithHint("muster doctor says what the machine lacks; without --shared each user can start a server of his own")
	}
	return nil
}

// identity is who a user of the machine is for this server.
func (u *users) identity(ctx context.Context, uid int) (engine.Identity, error) {
	if uid == ownUID() {
		return engine.Identity{Owner: true}, nil
	}
	if uid == nobodyUID { // whom the kernel has no number for, and a user that daemons share
		return engine.Identity{}, unknownUser(account.ErrUnknown, uid)
	}
	name, err := u.nameOf(ctx, uid)
	if err != nil {
		return engine.Identity{}, unknownUser(err, uid)
	}
	return engine.Identity{User: engine.User{Name: name, UID: uid}}, nil
}

func unknownUser(err error, uid int) error {
	kind := engine.Unavailable
	if errors.Is(err, account.ErrUnknown) {
		kind = engine.Unauthorized
	}
	return engine.Errorf(kind, "who user %d of this machine is cannot be found out: %v", uid, err).
		WithHint("have an administrator add the user to the user database (getent passwd %d shows whom the machine knows), or start a "+
			"server of your own: muster up", uid)
}

// behalf is for whom a user's session is made: the account as it is now, whatever groups it has been given since.
func (u *users) behalf(ctx context.Context, who engine.User) (*engine.Behalf, error) {
	a, err := account.ByUID(ctx, who.UID)
	if err != nil {
		return nil, unknownUser(err, who.UID)
	}
	if a.UID == ownUID() || a.Name != who.Name {
		return nil, engine.Errorf(engine.Internal, "user %d is %s, not %s", who.UID, a.Name, who.Name)
	}
	b := &engine.Behalf{Account: engine.Account{User: who, GID: a.GID, Groups: a.Groups, Home: a.Home, Shell: a.Shell}}
	files := rights.User{UID: a.UID, GID: a.GID, Groups: a.Groups}
	b.Look = func(look func()) error {
		// Not the request's context: it belongs to the session, not to a request.
		if err := u.takers.As(context.Background(), files, look); err != nil {
			return engine.Errorf(engine.Unavailable, "the files of user %s cannot be looked at: %w", who.Name, err)
		}
		return nil
	}
	return b, nil
}

func ownUID() int { return os.Geteuid() }

type userKey struct{}

// knowUsers makes a shared server remember, of connections to its socket, to ask who sits at the other end.
func (a *app) knowUsers(h *http.Server) {
	if a.users == nil {
		return
	}
	before := h.ConnContext
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if before != nil {
			ctx = before(ctx, c)
		}
		if u, ok := server.Socket(c).(*net.UnixConn); ok {
			ctx = context.WithValue(ctx, userKey{}, sync.OnceValues(func() (engine.Identity, error) { return a.users.at(u) }))
		}
		return ctx
	}
}

func (u *users) at(c *net.UnixConn) (engine.Identity, error) {
	uid, err := peer.User(c)
	if err != nil {
		return engine.Identity{}, fmt.Errorf("who connected: %w", err)
	}
	return u.identity(context.Background(), uid)
}

// localUser is who sent a request, if that came by a shared server's socket.
func (a *app) localUser(ctx context.Context) (engine.Identity, bool, error) {
	ask, ok := ctx.Value(userKey{}).(func() (engine.Identity, error))
	if !ok {
		return engine.Identity{}, false, nil
	}
	who, err := ask()
	return who, true, err
}
