package server

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"muster/api"
	"muster/engine"
)

// plain is a reply that the handler writes itself.
func plain(write func(w http.ResponseWriter, r *http.Request)) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		write(w, r)
	}}
}

// StdinInput is how the body goes into a session's stdin.
type StdinInput struct {
	SessionPath
	From int64 `query:"from" default:"-1" doc:"how many bytes come before the body: what was written already is left out, so that a request may be repeated; -1: all that was written"`
	Last bool  `query:"last" default:"true" doc:"close stdin at the body's end"`
}

// stdinPiece is how much of a body is read at once.
const stdinPiece = 32 << 10

// stdin writes the body to the session's stdin as it comes, and answers when all is written or nothing more can be.
func (s *Server) stdin(ctx context.Context, in *StdinInput) (*huma.StreamResponse, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		control.EnableFullDuplex() // the reply may come before the body ends: net/http would wait for the rest first
		ctx, cancel := s.streamContext(r.Context())
		defer cancel()
		stop := context.AfterFunc(ctx, func() {
			control.SetReadDeadline(time.Unix(1, 0)) // ends a read that waits for a client which does not type
		})
		defer stop()
		at, whole, err := s.copyStdin(ctx, id, in, r.Body)
		if s.closing.Err() != nil {
			panic(http.ErrAbortHandler) // the next server will say how far it came
		}
		if !whole {
			w.Header().Set("Connection", "close") // what was not read of the body would be taken for the next request
		}
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, at)
	}), nil
}

// copyStdin copies the body, and reports whether that was read to its end. The end of the last body, also a broken one, closes
// stdin: a script that reads to the end must not wait for a client that is gone.
func (s *Server) copyStdin(ctx context.Context, id engine.ID, in *StdinInput, body io.Reader) (at api.Stdin, whole bool, err error) {
	buf := make([]byte, stdinPiece)
	from := in.From
	for first := true; ; first = false {
		n, readErr := body.Read(buf)
		whole = readErr == io.EOF
		last := readErr != nil && in.Last
		if last && !whole { // ctx has ended, with the client or with this server
			if s.closing.Err() != nil {
				return at, false, readErr
			}
			var cancel context.CancelFunc
			ctx, cancel = s.streamContext(context.WithoutCancel(ctx))
			defer cancel()
		}
		if n > 0 || last || whole && first {
			at, err = s.manager.WriteStdin(ctx, id, from, buf[:n], last)
		}
		if err != nil || at.Closed || whole {
			return at, whole, err
		}
		if readErr != nil {
			return at, false, readErr
		}
		if from >= 0 {
			from += int64(n)
		}
	}
}
