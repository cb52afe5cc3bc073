package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
	"muster/engine"
)

type awaitInput struct {
	SessionPath
	Accept string `header:"Accept" doc:"application/x-ndjson: lines of AwaitLine, progress as it happens"`
	Body   api.Await
}

// await answers when the manager does: as one object, or line by line.
func (s *Server) await(ctx context.Context, in *awaitInput) (*huma.StreamResponse, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := s.streamContext(r.Context())
		defer cancel()
		defer endWrites(ctx, w)()
		if accepts(in.Accept, typeNDJSON) {
			s.awaitLines(ctx, w, id, in.Body)
			return
		}
		result, err := s.manager.Await(ctx, id, in.Body, nil)
		if err != nil {
			writeError(w, s.awaitError(err))
			return
		}
		turn, err := s.awaitTurn(ctx, id, in.Body)
		if err != nil {
			writeError(w, s.awaitError(err))
			return
		}
		defer turn()
		w.Header().Set("Content-Type", typeJSON)
		writeAwaited(w, "", "", result())
	}), nil
}

// awaitLines sends the counts as they change. The manager is never held up by a slow client: only the newest counts
// wait to be sent.
func (s *Server) awaitLines(ctx context.Context, w http.ResponseWriter, id engine.ID, req api.Await) {
	newest := make(chan api.AwaitProgress, 1)
	type outcome struct {
		result func() api.Awaited
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := s.manager.Await(ctx, id, req, func(p api.AwaitProgress) {
			for {
				select {
				case newest <- p:
					return
				default:
				}
				select {
				case <-newest: // the older one
				default:
				}
			}
		})
		done <- outcome{result, err}
	}()
	begun := false
	line := func(l api.AwaitLine) {
		if !begun {
			w.Header().Set("Content-Type", typeNDJSON)
			begun = true
		}
		json.NewEncoder(w).Encode(l)
		http.NewResponseController(w).Flush()
	}
	for {
		select {
		case p := <-newest:
			line(api.AwaitLine{Progress: &p})
		case out := <-done:
			turn, err := func() {}, out.err
			if err == nil {
				turn, err = s.awaitTurn(ctx, id, req)
			}
			switch {
			case err == nil:
				defer turn()
				w.Header().Set("Content-Type", typeNDJSON)
				writeAwaited(w, `{"result":`, "}", out.result())
			case begun:
				e := problem(s.awaitError(err)).body
				line(api.AwaitLine{Error: &e})
			default:
				writeError(w, s.awaitError(err))
			}
			return
		}
	}
}

// awaitError is the error of a wait. One that was broken off because the server ends has no answer: the connection breaks, and
// who waits goes on with the next server, if there is one.
func (s *Server) awaitError(err error) error {
	if s.closing.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	return err
}

// awaitTurn is replyTurn for the result of an await.
func (s *Server) awaitTurn(ctx context.Context, id engine.ID, req api.Await) (release func(), err error) {
	if req.All || len(req.IDs) == 0 {
		return s.listTurn(ctx, id)
	}
	return s.replyTurn(ctx, id, len(req.IDs))
}

func writeAwaited(w http.ResponseWriter, before, after string, a api.Awaited) {
	writeWorkers(w, before, after, workerList{"workers", a.Workers}, workerList{"failures", a.Failures})
}

// accepts reports whether an Accept header names the media type itself.
func accepts(header, mediaType string) bool {
	for part := range strings.SplitSeq(header, ",") {
		t, _, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(t), mediaType) {
			return true
		}
	}
	return false
}
