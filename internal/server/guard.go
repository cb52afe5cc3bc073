package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"muster/api"
	"muster/engine"
)

type identityKey struct{}

// identity tells who sends the request; guard has put it there.
func identity(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// Sender tells of a handler's context who sends the request, and from where: "unix", or an address.
func Sender(ctx context.Context) (who Identity, from string) {
	conn, ok := ctx.Value(connKey{}).(net.Conn)
	if !ok {
		return identity(ctx), ""
	}
	if _, local := conn.(*net.UnixConn); local {
		return identity(ctx), "unix"
	}
	return identity(ctx), hostName(conn.RemoteAddr().String())
}

// guard holds everything back that does not come from a client of ours with a token: web pages that found the port
// (by Origin, or by Host when they made their own name point here), other versions of the API, strangers.
func (s *Server) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusForbidden, body: api.Error{Kind: string(engine.Unauthorized),
			Message: fmt.Sprintf("requests from web pages of another origin (%s) are refused", r.Header.Get("Origin"))}})
	}))
	inner := origin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkVersion(r); err != nil {
			writeError(w, err)
			return
		}
		known, err := s.authenticate(r)
		var done func()
		if err == nil {
			known, done, err = s.whileGood(known)
		}
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="muster"`)
			if !strings.HasPrefix(r.URL.Path, api.Base+"/") { // html_url in a browser, which then asks for a name: the token
				w.Header().Add("WWW-Authenticate", `Basic realm="muster: the token is the name"`)
			}
			writeError(w, err)
			return
		}
		defer done()
		if r.URL.Path != api.Base+"/version" && s.tooFast(w, identity(known.Context())) {
			return
		}
		next.ServeHTTP(w, known)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderVersion, strconv.Itoa(api.Version))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		defer s.recovered(w, r)
		if !s.hostAllowed(r) {
			writeError(w, &apiError{status: http.StatusForbidden, body: api.Error{Kind: string(engine.Unauthorized),
				Message: fmt.Sprintf("this server does not go by the name %q", r.Host),
				Hint:    "use localhost or the address that the server listens on"}})
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// recovered answers a request whose handler panicked. A reply that had begun is broken off.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler {
		s.log.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		if w.Header().Get("Content-Type") == "" {
			writeError(w, engine.Errorf(engine.Internal, "a mistake of the server: %v", p))
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// hostAllowed keeps pages away that reach us through a name of their own (DNS rebinding).
func (s *Server) hostAllowed(r *http.Request) bool {
	host := hostName(r.Host)
	label, parent, _ := strings.Cut(host, ".")
	if s.hosts[host] || label != "" && s.hosts["*."+parent] { // a certificate's name may be all of a domain
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(ip)
}

// hostName is a Host header without port and brackets.
func hostName(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = h
	}
	return strings.ToLower(strings.Trim(hostport, "[]"))
}

func checkVersion(r *http.Request) error {
	v := r.Header.Get(api.HeaderVersion)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return engine.Errorf(engine.Invalid, "the header %s is %q: it must be a number, at most %d", api.HeaderVersion, v, api.Version)
	}
	if n > api.Version {
		return engine.Errorf(engine.Invalid, "the client speaks version %d of the API, this server only version %d", n, api.Version).
			WithHint("use a client as old as the server, or a newer server")
	}
	return nil
}

// authenticate finds out who sends r. Only GET /version may be asked without a token.
func (s *Server) authenticate(r *http.Request) (*http.Request, error) {
	if r.URL.Path == api.Base+"/version" {
		return r, nil
	}
	token := tokenOf(r)
	local, isLocal, err := s.local(r.Context())
	switch {
	case err != nil:
		return nil, err
	case token == "" && isLocal:
		return known(r, local), nil
	case token == "":
		return nil, engine.Errorf(engine.Unauthorized, "the request has no token").
			WithHint(`set MUSTER_TOKEN to one of yours (muster token create, on the server's machine), or to the owner's (in the server's ` +
				`runtime folder, such as /run/muster); other programs send "Authorization: Bearer TOKEN"`)
	}
	id, ok := s.manager.Authenticate(token)
	if ok && isLocal && !local.Owner && (id.Owner || id.User != local.User) {
		ok = false // somebody else's
	}
	if !ok {
		return nil, engine.Errorf(engine.Unauthorized, "the token is not known to this server").
			WithHint("it may have expired or been revoked (a session's ends with the session): unset MUSTER_TOKEN on the server's machine; " +
				"for elsewhere muster token create makes another there")
	}
	// Engines reach their own session's listener only, so another token than their session's was stolen.
	if session, ok := SessionOf(r.Context()); ok && (id.Owner || id.Session != session) {
		return nil, engine.Errorf(engine.Unauthorized, "the token is not that of session %s, whose engines are served here", session.Short()).
			WithHint("in an engine, use the token in CDSW_API_KEY")
	}
	return known(r, id), nil
}

func known(r *http.Request, id Identity) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), identityKey{}, id))
}

// whileGood ends what is done for a request when the token that it came with ends. Whoever waits hears it at once and may say a
// last word; then the connection is closed, whatever is going on there. done must be called when the request is answered.
func (s *Server) whileGood(r *http.Request) (_ *http.Request, done func(), err error) {
	who := identity(r.Context())
	if who.Token == "" || s.access == nil {
		return r, func() {}, nil
	}
	until := s.access.Until(who)
	ctx, cancel := context.WithCancelCause(r.Context())
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	stop := context.AfterFunc(until, func() {
		cancel(errTokenEnded)
		if conn != nil {
			conn.SetDeadline(time.Now()) // of a body that is being read
			conn.SetWriteDeadline(time.Now().Add(lastWrite))
			time.AfterFunc(lastWrite, func() { conn.Close() })
		}
	})
	if until.Err() != nil {
		stop()
		cancel(errTokenEnded)
		return nil, nil, errTokenEnded
	}
	return r.WithContext(ctx), func() { stop(); cancel(nil) }, nil
}

var errTokenEnded = engine.Errorf(engine.Unauthorized, "the token has ended: it was revoked, or has expired").
	WithHint("muster token create, on the server's machine, makes another")

// tokenOf takes the token from Bearer, or from Basic as the user's name, which clients of the original send.
func tokenOf(r *http.Request) string {
	if user, _, ok := r.BasicAuth(); ok {
		return user
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}
