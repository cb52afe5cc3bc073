package server

import (
	"net/http"

	"muster/api"
	"muster/engine"
)

// routed is mux with answers of ours where it has no route: mux itself would answer with plain text.
func routed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		writeError(w, engine.Errorf(engine.NotFound, "there is no route %s", r.URL.Path).
			WithHint("GET %s/openapi.json lists all routes", api.Base))
	})
}

// statusOnly is a ResponseWriter that keeps the status and headers and forgets the body.
type statusOnly struct {
	header http.Header
	status int
}

func (p *statusOnly) Header() http.Header         { return p.header }
func (p *statusOnly) WriteHeader(status int)      { p.status = status }
func (p *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
