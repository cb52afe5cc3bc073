package server

import (
	"net/http"
	"strings"

	"muster/api"
	"muster/engine"
)

// routed is mux with answers of ours where it has no route: mux itself would answer with plain text.
func routed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = withoutSlash(r)
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := &statusOnly{header: w.Header()} // learns 404 or 405 with Allow
		h.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			writeError(w, &apiError{status: probe.status, body: api.Error{Kind: string(engine.Invalid),
				Message: r.Method + " is not possible on " + r.URL.Path + ", only " + w.Header().Get("Allow")}})
			return
		}
		writeError(w, noRoute(r.URL.Path))
	})
}

// withoutSlash takes the slash from the end of the original's routes, whose clients write it or not.
func withoutSlash(r *http.Request) *http.Request {
	path, cut := strings.CutSuffix(r.URL.Path, "/")
	if !cut || !strings.HasPrefix(path, api.Original+"/") {
		return r
	}
	c, u := *r, *r.URL
	u.Path, u.RawPath = path, ""
	c.URL = &u
	return &c
}

// noRoute says what there is instead.
func noRoute(path string) error {
	hint := "GET " + api.Base + "/openapi.json lists all routes"
	if path == "/api/v2" || strings.HasPrefix(path, "/api/v2/") {
		return &apiError{status: http.StatusNotImplemented, body: api.Error{Kind: string(engine.NotFound),
			Message: "version 2 of the original's API is not served, so there is no " + path,
			Hint:    "workers are launched, listed and stopped by the routes below " + api.Original + "; " + hint}}
	}
	return engine.Errorf(engine.NotFound, "there is no route %s", path).WithHint("%s", hint)
}

// statusOnly is a ResponseWriter that keeps the status and headers and forgets the body.
type statusOnly struct {
	header http.Header
	status int
}

func (p *statusOnly) Header() http.Header         { return p.header }
func (p *statusOnly) WriteHeader(status int)      { p.status = status }
func (p *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
