package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
)

// Media types of the streams.
const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeFrames = "application/vnd.muster.console"
	typeBytes  = "application/octet-stream"
	typeHTML   = "text/html"
)

// register is the table of our own routes; registerOriginal has the others.
func (s *Server) register() {
	add(s, "GET", "/version", "getVersion", "Versions of the server; needs no token", s.getVersion)
	add(s, "GET", "/openapi.json", "getOpenAPI", "This document", s.getOpenAPI, replies(typeJSON))

	add(s, "GET", "/sessions", "listSessions", "The sessions that one may see: the owner all, a user the own ones", s.listSessions)
	add(s, "POST", "/sessions", "createSession", "Start a session (people only)", s.createSession, created)
	add(s, "GET", "/sessions/{id}", "getSession", "One session", s.getSession)
	add(s, "DELETE", "/sessions/{id}", "endSession", "End a session and everything of it; returns when it is gone", s.endSession)
	add(s, "POST", "/sessions/{id}/interrupt", "interruptSession", "Send SIGINT to the session's own engine", s.interrupt)
	add(s, "POST", "/sessions/{id}/resize", "resizeSession", "Tell the size of the session's terminal", s.resize)
	add(s, "POST", "/sessions/{id}/stdin", "writeStdin", "The session's stdin: the body is written as it comes",
		s.stdin, takes(typeBytes), repliesSchema[api.Stdin](typeJSON))
	add(s, "GET", "/sessions/{id}/console", "readConsole", "The console from a position on, and what follows",
		s.console, replies(typeFrames), repliesSchema[api.ConsoleRecord](typeNDJSON), explained(onDamage+"The others follow."))

	add(s, "POST", "/sessions/{id}/workers", "launchWorkers", "Launch workers; they start when this reply was sent", s.launch,
		repliesSchema[api.Workers](typeJSON))
	add(s, "GET", "/sessions/{id}/workers", "listWorkers", "The session's workers, newest first", s.workers,
		repliesSchema[api.Workers](typeJSON))
	add(s, "POST", "/sessions/{id}/await", "awaitWorkers", "Wait for workers; as NDJSON with progress (lines of AwaitLine)",
		s.await, repliesSchema[api.Awaited](typeJSON), repliesSchema[api.AwaitLine](typeNDJSON))
	add(s, "POST", "/sessions/{id}/stop", "stopWorkers", "Stop workers", s.stop)
	add(s, "POST", "/sessions/{id}/restart", "restartWorkers", "Start the work of workers again; it starts when this reply was sent",
		s.restart, repliesSchema[api.Workers](typeJSON))

	add(s, "GET", "/engines/{id}", "getEngine", "A worker or a session's own engine, by id or by the beginning of one", s.getEngine)
	add(s, "GET", "/engines/{id}/log", "readLog", "What one engine printed", s.engineLog,
		replies(typeFrames, typeBytes), repliesSchema[api.ConsoleRecord](typeNDJSON), explained(onDamage+"The log ends there. "+
			"A reply that is bytes (raw) tells it in its trailer "+api.HeaderDamaged+", as a sentence in UTF-8."))
}

// option adds to an operation's entry in the document.
type option func(s *Server, op *huma.Operation)

// add registers one route of ours.
func add[I, O any](s *Server, method, path, id, summary string, handler func(context.Context, *I) (*O, error), options ...option) {
	addAt(s, api.Base, method, path, id, summary, handler, options...)
}

// addAt registers one route below base.
func addAt[I, O any](s *Server, base, method, path, id, summary string, handler func(context.Context, *I) (*O, error), options ...option) {
	op := huma.Operation{
		Method: method, Path: base + path, OperationID: id, Summary: summary,
		// Neither of huma's own limits: they cannot tell senders apart, and its deadline outlives the body (limits.go).
		MaxBodyBytes: -1, BodyReadTimeout: -1,
		Security:  []map[string][]string{{"bearer": {}}, {"basic": {}}},
		Responses: map[string]*huma.Response{},
	}
	if path == "/version" {
		op.Security = []map[string][]string{}
	}
	for _, o := range options {
		o(s, &op)
	}
	if op.RequestBody == nil { // else the handler reads it
		op.Middlewares = append(op.Middlewares, s.limitBody)
	}
	op.Responses["default"] = &huma.Response{
		Description: "Error: kind says which, message what, hint what to do next",
		Content:     content(typeJSON, s.api.OpenAPI().Components.Schemas.Schema(typeOf[api.Error](), true, "Error")),
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		decoded(ctx)
		out, err := handler(ctx, in)
		if err != nil {
			return nil, problem(err)
		}
		return out, nil
	})
}

// onDamage is what the document says of damaged consoles.
const onDamage = "Where records cannot be read, or are not there any more, there is a record of stream event whose payload is " +
	`{"type": "damaged", "message": "..."}` + ", once for as many as follow each other. "

func explained(text string) option {
	return func(_ *Server, op *huma.Operation) { op.Description = text }
}

func created(_ *Server, op *huma.Operation)   { op.DefaultStatus = http.StatusCreated }
func noContent(_ *Server, op *huma.Operation) { op.DefaultStatus = http.StatusNoContent }

// takes documents a body that the handler reads itself.
func takes(mediaType string) option {
	return func(_ *Server, op *huma.Operation) {
		op.RequestBody = &huma.RequestBody{Content: content(mediaType, binary())}
	}
}

// replies documents a body that the handler writes itself.
func replies(mediaTypes ...string) option {
	return func(_ *Server, op *huma.Operation) {
		for _, t := range mediaTypes {
			reply(op).Content[t] = &huma.MediaType{Schema: binary()}
		}
	}
}

// repliesSchema is replies for a body of type T.
func repliesSchema[T any](mediaType string) option {
	return func(s *Server, op *huma.Operation) {
		schema := s.api.OpenAPI().Components.Schemas.Schema(typeOf[T](), true, "")
		reply(op).Content[mediaType] = &huma.MediaType{Schema: schema}
	}
}

func reply(op *huma.Operation) *huma.Response {
	if op.Responses["200"] == nil {
		op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{}}
	}
	return op.Responses["200"]
}

func content(mediaType string, schema *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{mediaType: {Schema: schema}}
}

func binary() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Format: "binary"} }
