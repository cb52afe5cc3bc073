package app

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"

	"muster/engine"
	"muster/internal/linux/peer"
	"muster/internal/server"
)

type personKey struct{}

// knowPersons makes the server remember, of connections over the loopback, to ask whether the person who runs this server
// sits at the other end. It is asked once for each connection, if at all.
func (a *app) knowPersons(h *http.Server) {
	before := h.ConnContext
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if before != nil {
			ctx = before(ctx, c)
		}
		if t, ok := server.Socket(c).(*net.TCPConn); ok { // those of engines are of another type
			ctx = context.WithValue(ctx, personKey{}, sync.OnceValues(func() (engine.Identity, bool) { return a.who(t) }))
		}
		return ctx
	}
}

// personOf is the answer for a request's context.
func personOf(ctx context.Context) (engine.Identity, bool) {
	if ask, ok := ctx.Value(personKey{}).(func() (engine.Identity, bool)); ok {
		return ask()
	}
	return engine.Identity{}, false
}

// who is the person at the other end: this server's user, or any user of a shared server, each for what is his own.
func (a *app) who(c *net.TCPConn) (engine.Identity, bool) {
	if a.users == nil {
		return engine.Identity{Owner: true}, isPerson(c, os.Geteuid())
	}
	uid, ok := personAt(c)
	if !ok {
		return engine.Identity{}, false
	}
	who, err := a.users.identity(context.Background(), uid)
	return who, err == nil && !who.Owner
}

// nobodyUID is who is not known: what the kernel says of users that this container has no number for, and a user that daemons
// share.
const nobodyUID = 65534

// isPerson reports whether a connection's other end was made by a program of this server's user, on this machine.
//
// Programs that pass connections on are the danger, for the person at their other end is not known. Those of the machine
// itself (docker-proxy, ssh to root) run as root, and root's number is also listed for sockets that no process holds any
// more; so root is never recognised: a root server's own person logs in. What engines send to the host's addresses is
// passed on by this very server: hence the loopback, where it never leads them. And what the person passes on himself (ssh -L, an
// editor's forwarded port) counts as the person. The process namespace is not looked at, as it is of unix sockets: packaged
// browsers have one of their own.
func isPerson(c *net.TCPConn, uid int) bool {
	at, ok := personAt(c)
	return ok && at == uid
}

// personAt is the user of the program at the other end, if that can be a person's own.
func personAt(c *net.TCPConn) (uid int, ok bool) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 || !local.IP.IsLoopback() || !remote.IP.IsLoopback() {
		return -1, false
	}
	uid, err := peer.TCPUser(local.AddrPort(), remote.AddrPort())
	return uid, err == nil && uid != 0 && uid != nobodyUID
}
