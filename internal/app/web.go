package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"muster/engine"
	"muster/internal/server"
	"muster/internal/store"
	"muster/internal/web"
)

// webPort is where browsers find engines if nobody asks for something else and it is free: an address that people can keep.
const webPort = 20202

// localhost is where browsers find engines of a server that listens at a number.
const localhost = "localhost"

// noWeb asks for no web addresses.
const noWeb = "none"

// webBefore is the port of this machine at which the newest session that goes on was told that its engines are found; 0: none is known.
// What people and engines have kept of addresses leads there.
func webBefore(records *store.Store) (port int, err error) {
	if records == nil {
		return 0, nil
	}
	known, err := records.Sessions()
	for _, k := range known {
		host, digits, _ := net.SplitHostPort(k.Web)
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil && host == localhost && !k.Ended {
			port = int(n)
		}
	}
	return port, err
}

// listenWeb listens where people's browsers find engines: where it is asked to, else at the port before, else at the usual one, else
// at any. Nil if they are not to.
func listenWeb(asked string, before int) (net.Listener, error) {
	switch asked {
	case noWeb:
		return nil, nil
	case "":
		ports := []int{webPort, 0}
		if before != 0 {
			ports = []int{before, webPort, 0}
		}
		var l net.Listener
		var err error
		for _, port := range ports {
			l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
				break
			}
		}
		if err != nil {
			return nil, engine.Errorf(engine.Unavailable, "no address for browsers: %w", err).WithHint("--web none does without")
		}
		return l, nil
	}
	l, err := net.Listen("tcp", asked)
	if err != nil {
		return nil, engine.Errorf(engine.Unavailable, "browsers cannot be served at %s: %w", asked, err).
			WithHint("give another address with --web, or none")
	}
	return l, nil
}

// domain is what the web addresses of engines end with. Sub-domains of a number there are none: whoever listens on one is
// found as localhost, by a forwarded port, or by the path.
func domain(asked string, l net.Listener) string {
	if l == nil {
		return ""
	}
	host, _, _ := net.SplitHostPort(asked)
	if host == "" || net.ParseIP(host) != nil {
		host = localhost
	}
	return net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// newGateway leads to engines what comes to their addresses, and the rest to next.
func newGateway(domain string, names []string, f entrance, log *slog.Logger, next http.Handler) *web.Gateway {
	return web.New(web.Config{Domain: domain, Manager: found{f}, Session: server.SessionOf, Person: personOf, Until: f.until, Login: f.login, Names: names, Next: next, Log: log})
}

// front tells who can mean the address of an engine: whoever comes by TCP.
func front(gateway, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, isTCP := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); isTCP {
			gateway.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// found gives the manager's engines to the gateway.
type found struct{ entrance }

func (f found) Find(id engine.ID) (web.Engine, bool) {
	e, ok := f.engines.Find(id)
	return web.Engine(e), ok
}

func (f found) Authenticate(token string) (engine.Identity, bool) {
	return f.manager.Authenticate(token)
}

func (f found) Dial(ctx context.Context, id engine.ID, port int) (net.Conn, error) {
	return f.engines.Dial(ctx, id, port)
}
