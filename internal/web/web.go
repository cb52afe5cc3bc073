// Package web leads the web addresses of engines to the ports that their apps listen on: it is an http.Handler for the
// server's web listener, in front of the API. Only package app, which wires the parts, imports it.
//
// # Addresses
//
// Every engine has three, for a DOMAIN such as localhost:8480:
//
//	http://<id>.DOMAIN/            http://DOMAIN/app/<id>/         127.0.0.1:8090 in the engine ($CDSW_APP_PORT)
//	http://read-only-<id>.DOMAIN/  http://DOMAIN/read-only/<id>/   127.0.0.1:8100 in the engine ($CDSW_READONLY_PORT)
//	http://public-<id>.DOMAIN/     http://DOMAIN/public/<id>/      127.0.0.1:8080 in the engine ($CDSW_PUBLIC_PORT)
//
// Those by path are for where sub-domains do not resolve. The prefix is taken off, told in X-Forwarded-Prefix, and put
// before what the app says in Location and in the paths of its cookies; pages are not rewritten. In a browser all addresses
// by path are one origin, so pages of one engine can act on another that the person opened by path: app_url is the
// sub-domain, where each address is an origin of its own. What is no address of an engine goes to Config.Next.
//
// # Who may
//
// public- addresses are open. For the others, in this order:
//
//   - A request from inside a session (Config.Session) reaches the engines of that session, public ones too, and no others,
//     whatever it carries.
//   - A token, of the owner, of the user whose session it is, or of the engine's session: Authorization Bearer, Basic (as the user's name), or ?muster_token=.
//   - The cookie of this one address.
//
// A browser that has none of these is sent to DOMAIN/login?to=ADDRESS. That page takes the token (?token=, or typed), keeps
// a cookie of its own (path /login), and sends the browser back with ?muster_code=, good once, for half a minute, for this
// address; it becomes the address's cookie, and the browser is sent on to the clean address. Browsers keep cookies of
// sub-domains apart (at localhost they must), hence the detour; it also makes each cookie worth one address. Whose browser is
// known to be the owner's own (Config.Person) is not asked for a token.
//
//	<id>.DOMAIN/x ──► DOMAIN/login?to=… ──► <id>.DOMAIN/x?muster_code=… ──► <id>.DOMAIN/x
//	 no cookie         cookie, person, or asks cookie of this address          proxied
//
// A cookie holds no token: it names who logged in, until when and for what, with a MAC under a key of this process. It is
// HttpOnly and SameSite=Lax. Browsers send cookies to every port of a host, so what somebody else serves on another port
// of the same name, once visited, could see it; hence one day, one address, and never the API.
//
// Cookies and Basic come along with requests that foreign pages cause. They count only for the address's own pages, and for
// following a link; Upgrade with a cookie needs the address's own Origin. Inside a session origins are not looked at: an
// engine's id is a secret that pages from elsewhere do not know. A Host that is not ours is refused (421), so a foreign
// page cannot make its own name lead here.
//
// A person's browser that needs no token has no cookie at the login either, which browsers would keep from what foreign pages
// cause; so there it must say itself that the person follows a link or typed it (Sec-Fetch-Mode and -Dest), which pages cannot
// say in its name. What any program adds that forwards for others (X-Forwarded-For and the like) makes it nobody's browser.
// Everything after the login is the cookie's: the address itself and the API know no person without it.
//
// Engines see nothing of this: our cookies, our parameters and an Authorization that holds a token of ours are taken out,
// and an engine can set no cookie of ours, nor one for other hosts.
package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"muster/engine"
)

// Manager is what the gateway needs to know and to reach. Its methods are safe for concurrent use.
type Manager interface {
	// Authenticate tells who a token belongs to; false for an unknown one. It must not tell by its time how much of a
	// token was right.
	Authenticate(token string) (engine.Identity, bool)
	// Find describes an engine, also one that has ended; false for an unknown id.
	Find(id engine.ID) (Engine, bool)
	// Dial connects to a TCP port of the engine's own 127.0.0.1. A port that nobody listens on is syscall.ECONNREFUSED in
	// the error's chain. The connection should have CloseWrite, as *net.TCPConn does.
	Dial(ctx context.Context, id engine.ID, port int) (net.Conn, error)
}

// Engine is what people are told of an engine, and who may reach it.
type Engine struct {
	ID      engine.ID
	Session engine.ID   // the session it belongs to; its own id for a session's own engine
	User    engine.User // whose session that is; zero: the server's own user's
	Name    string
	Role    engine.Role
	Status  engine.Status
	Why     string          // why it waits or how it ended, for people; may be empty
	Done    <-chan struct{} // closed when it has ended
}

// Config is what a Gateway needs.
type Config struct {
	// Domain is the server's name for people, "localhost:8480". Only the name counts: the port is whatever the client says,
	// so that forwarded ports work. Always served besides: localhost, loopback addresses, and the address that the
	// connection came in on.
	Domain string
	// Names are those by which clients of the API ask for the server where it has others. Engines have no addresses there.
	Names   []string
	Manager Manager
	// Session tells of a request's context whether its listener is that of a session's engines, and of which. A server puts
	// it there in http.Server.BaseContext. nil: no such listeners; every request must log in.
	Session func(ctx context.Context) (engine.ID, bool)
	// Person tells of a request's context who on this machine runs the program that sent it, if that is known: the server's
	// owner, or one of its users. Of a browser that is as good as a login. nil: nobody is known so.
	Person func(ctx context.Context) (engine.Identity, bool)
	// Until ends when an identity does, as with a token that is revoked, and with it what is being answered. nil: none ever does.
	Until func(who engine.Identity) context.Context
	// Login is told of every login by token or person. nil: nobody is.
	Login func(ctx context.Context, who engine.Identity)
	Next  http.Handler // whatever is no address of an engine
	Log   *slog.Logger // nil: slog.Default
}

// Gateway is the handler. Its methods are safe for concurrent use.
type Gateway struct {
	others   map[string]bool // further names, of the API alone
	manager  Manager
	names    []string // under which the server, and as sub-domains of which its engines, are reached
	session  func(ctx context.Context) (engine.ID, bool)
	person   func(ctx context.Context) (engine.Identity, bool)
	until    func(who engine.Identity) context.Context
	loggedIn func(ctx context.Context, who engine.Identity)
	next     http.Handler
	log      *slog.Logger
	tickets  *tickets

	closing context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // requests to engines, and one for each pool

	mu     sync.Mutex
	closed bool
	pools  map[engine.ID]*http.Transport
}

// New makes a gateway.
func New(c Config) *Gateway {
	g := &Gateway{
		manager: c.Manager, session: c.Session, person: c.Person, next: c.Next, log: c.Log,
		names: []string{"localhost"}, tickets: newTickets(), pools: map[engine.ID]*http.Transport{},
	}
	if h, ok := splitHost(c.Domain); ok && h.name != "localhost" {
		g.names = append(g.names, h.name)
	}
	g.others = map[string]bool{}
	for _, name := range c.Names {
		g.others[nameOf(name)] = true
	}
	if g.session == nil {
		g.session = func(context.Context) (engine.ID, bool) { return "", false }
	}
	if g.person == nil {
		g.person = func(context.Context) (engine.Identity, bool) { return engine.Identity{}, false }
	}
	if g.until = c.Until; g.until == nil {
		g.until = func(engine.Identity) context.Context { return context.Background() }
	}
	if g.loggedIn = c.Login; g.loggedIn == nil {
		g.loggedIn = func(context.Context, engine.Identity) {}
	}
	if g.log == nil {
		g.log = slog.Default()
	}
	g.closing, g.cancel = context.WithCancel(context.Background())
	return g
}

// Close breaks off the requests that lead to engines, upgraded connections too (which http.Server.Shutdown does not know),
// and returns when they are gone. Later ones are refused. Streams last as long as their engines: Close belongs into
// http.Server.RegisterOnShutdown, or before Shutdown.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.running.Wait()
}

// begin counts a request to an engine; the caller calls running.Done after true.
func (g *Gateway) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running.Add(1)
	return true
}

func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := g.serves(r)
	if !ok && g.other(nameOf(r.Host)) {
		g.next.ServeHTTP(w, r)
		return
	}
	if !ok {
		show(w, r, wrongHost(r.Host, g.names[len(g.names)-1]))
		return
	}
	a, isEngine := locate(h, r.URL.EscapedPath())
	_, inside := g.session(r.Context())
	switch {
	case isEngine:
		g.serveEngine(w, r, a)
	case h.label != "":
		show(w, r, noEngine(h.label))
	case r.URL.Path == loginPath && !inside:
		g.login(w, r, h)
	default:
		g.next.ServeHTTP(w, r)
	}
}

// other reports whether a name is one of the API alone. One of a certificate's may be all names of a domain: *.example.org.
func (g *Gateway) other(name string) bool {
	label, parent, _ := strings.Cut(name, ".")
	return g.others[name] || label != "" && g.others["*."+parent]
}

// serveEngine answers a request to an engine's address: it admits, looks, and hands over.
func (g *Gateway) serveEngine(w http.ResponseWriter, r *http.Request, a address) {
	if r.Method == http.MethodConnect {
		show(w, r, page{status: http.StatusMethodNotAllowed, title: "No CONNECT here",
			text: "Web addresses of engines are no forward proxy: ask for the address itself."})
		return
	}
	if a.path == "" && a.prefix != "" {
		http.Redirect(w, r, withQuery(a.prefix+"/", r.URL.RawQuery), http.StatusPermanentRedirect)
		return
	}
	who, ok := g.admit(w, r, a)
	if !ok {
		return
	}
	e, found := g.manager.Find(a.id)
	switch {
	case !found || !who.mayReach(e):
		show(w, r, noEngine(string(a.id)))
	case e.Status.Final():
		show(w, r, ended(e))
	case e.Status == engine.Scheduling || e.Status == engine.Starting:
		show(w, r, notStarted(e))
	case !g.begin():
		show(w, r, closing())
	default:
		defer g.running.Done()
		g.proxy(w, g.withoutOurs(r), a, e, g.until(who.Identity))
	}
}
