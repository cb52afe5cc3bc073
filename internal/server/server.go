// Package server speaks HTTP: Muster's own API under /muster/v1 and the original's under /api/v1, over a unix socket or TCP. A handler decodes, calls one
// method of the Manager, and encodes; what is allowed and what happens is decided there, not here.
//
// Three ideas. Every route, streaming ones too, is registered once (routes.go, original.go), and that registration is also its
// entry in the OpenAPI document. Every error, also one of routing or decoding, is an api.Error (errors.go). Every
// request passes the same guards before it meets a route: host, origin, API version, token (guard.go).
//
// Only package app, which wires the parts, imports it.
package server

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"muster/api"
)

// Limits of what a connection may cost; those of bodies are in limits.go, of replies in reply.go.
const (
	maxHeaderBytes = 64 << 10
	headerTimeout  = 10 * time.Second
	idleTimeout    = 60 * time.Second // longer than clients of ours keep a connection that they do not use
	// lastWrite is how long a stream that is broken off may go on writing: enough for what is on its way and a last line,
	// and a client that does not read does not hold up the server's end.
	lastWrite = time.Second
)

// Config is what a Server needs.
type Config struct {
	Manager Manager
	Version string         // of the program, told by GET /version
	Driver  string         // name of the driver, told by GET /version
	Site    api.SiteConfig // told by GET /api/v1/site/config
	Log     *slog.Logger   // nil: slog.Default
	// AllowedHosts are further names by which clients may address the server in the Host header. Always allowed:
	// localhost, "muster" (what clients of the unix socket say) and the address that the connection came in on.
	AllowedHosts []string
	// Access is about tokens that people make, and about who did what; nil: there are none.
	Access Access
	// Local tells of a request's context who the user of the machine is that sent it, where the connection shows that: such a
	// request needs no token, and may not have another user's. nil: nobody is known so. False: this connection does not.
	Local func(ctx context.Context) (Identity, bool, error)
}

// Server answers the API's requests. Its methods are safe for concurrent use.
type Server struct {
	manager Manager
	version api.VersionInfo
	site    api.SiteConfig
	log     *slog.Logger
	access  Access // nil: none
	local   func(ctx context.Context) (Identity, bool, error)
	hosts   map[string]bool
	handler http.Handler
	api     huma.API

	bodyTimeout  time.Duration
	replyTimeout time.Duration
	rates        *rates
	large        slots // for decoding large bodies
	replies      slots // for making and sending large replies

	// closing ends the streams: they would otherwise last as long as the sessions that they show.
	closing context.Context
	close   context.CancelFunc
}

// New makes a server. It starts nothing: hand Handler to a listener, or use HTTP.
func New(c Config) *Server {
	s := &Server{
		manager: c.Manager,
		log:     c.Log,
		local:   c.Local,
		access:  c.Access,
		site:    c.Site,
		hosts:   map[string]bool{"localhost": true, "muster": true},

		rates:        newRates(),
		bodyTimeout:  bodyTimeout,
		replyTimeout: replyTimeout,
		version: api.VersionInfo{
			API: api.Version, Muster: c.Version, Driver: c.Driver,
			Started: time.Now().UTC().Format(time.RFC3339),
		},
	}
	if s.local == nil {
		s.local = func(context.Context) (Identity, bool, error) { return Identity{}, false, nil }
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	for _, h := range c.AllowedHosts {
		s.hosts[hostName(h)] = true
	}
	s.closing, s.close = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	s.api = humago.New(mux, humaConfig(c.Version))
	s.register()
	s.registerAccess()
	s.registerOriginal()
	s.handler = s.guard(s.hurried(routed(mux)))
	return s
}

// Handler answers all requests.
func (s *Server) Handler() http.Handler { return s.handler }

// HTTP returns an http.Server with the limits that belong to Handler, for the owner's listener and for those that
// ForEngines makes. Its Shutdown ends the streams.
func (s *Server) HTTP() *http.Server {
	h := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       listenerContext,
		ConnContext:       connContext,
		ConnState:         connState,
	}
	h.RegisterOnShutdown(s.Close)
	return h
}

// Close ends all streams that are being served, and those that come. Other requests are answered as before.
func (s *Server) Close() { s.close() }

// streamContext is ctx, ended also by Close.
func (s *Server) streamContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

// endWrites lets writing end soon after ctx did. stop must be called before ctx is cancelled at a handler's proper end: the
// deadline would stay with the connection.
func endWrites(ctx context.Context, w http.ResponseWriter) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(lastWrite))
	})
}
