package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
	"muster/engine"
)

// statusOf maps a kind of error to the HTTP status that carries it.
func statusOf(kind engine.Kind) int {
	switch kind {
	case engine.Invalid:
		return http.StatusBadRequest
	case engine.Unauthorized:
		return http.StatusUnauthorized
	case engine.NotFound:
		return http.StatusNotFound
	case engine.Conflict, engine.NoCapacity:
		return http.StatusConflict
	case engine.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// kindOf is the kind of an error that HTTP itself has a status for (no such route, body too large and so on).
func kindOf(status int) engine.Kind {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return engine.Unauthorized
	case status == http.StatusNotFound:
		return engine.NotFound
	case status < 500:
		return engine.Invalid
	default:
		return engine.Internal
	}
}

// apiError is api.Error with the status it travels with.
type apiError struct {
	body
	status int
}

type body = api.Error // another name, since apiError has a method Error

func (e *apiError) Error() string  { return e.Message }
func (e *apiError) GetStatus() int { return e.status }

// Schema documents what is sent: huma would not see the fields of an embedded type that is not exported.
func (apiError) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(typeOf[api.Error](), true, "Error")
}

// problem turns any error into what is sent.
func problem(err error) *apiError {
	var ready *apiError
	if errors.As(err, &ready) {
		return ready
	}
	kind := engine.KindOf(err)
	return &apiError{
		body:   api.Error{Kind: string(kind), Message: err.Error(), Hint: engine.HintOf(err)},
		status: statusOf(kind),
	}
}

// writeError sends err. Nothing may have been written before.
func writeError(w http.ResponseWriter, err error) {
	p := problem(err)
	writeJSON(w, p.status, p)
}

// writeJSON sends v as one whole reply, so that the client has all of it when the write was flushed.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"kind":"internal","message":"the reply could not be encoded"}`)
	}
	body = append(body, '\n')
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	w.Write(body) // a client that is gone needs no answer
}

// huma makes its own errors (decoding, validation) through this variable; it has no setting for one API.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		for _, err := range errs {
			var e *engine.Error
			var ready *apiError
			if errors.As(err, &e) || errors.As(err, &ready) {
				return problem(err)
			}
		}
		if len(errs) > 0 && msg == "validation failed" {
			msg = details(errs)
		} else if len(errs) > 0 {
			msg += ": " + details(errs)
		}
		if status == http.StatusUnprocessableEntity {
			status = http.StatusBadRequest
		}
		return &apiError{body: api.Error{Kind: string(kindOf(status)), Message: msg}, status: status}
	}
}

// details says what is wrong with a request: "n: expected integer (it is "two"); cpu: …".
func details(errs []error) string {
	var parts []string
	for _, err := range errs {
		var d *huma.ErrorDetail
		if !errors.As(err, &d) {
			parts = append(parts, err.Error())
			continue
		}
		where := strings.TrimPrefix(strings.TrimPrefix(d.Location, "body"), ".")
		part := d.Message
		if where != "" {
			part = where + ": " + part
			if v, err := json.Marshal(d.Value); err == nil && len(v) < 80 && d.Value != nil {
				part += fmt.Sprintf(" (it is %s)", v)
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}
