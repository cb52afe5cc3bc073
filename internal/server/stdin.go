package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// plain is a reply that the handler writes itself.
func plain(write func(w http.ResponseWriter, r *http.Request)) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		write(w, r)
	}}
}

// stdin writes the body to the session's stdin as it comes. The end of the body, also a broken one, closes it: a script
// that reads to the end must not wait for a client that is gone.
func (s *Server) stdin(ctx context.Context, in *SessionPath) (*huma.StreamResponse, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		control.EnableFullDuplex()            // the reply may come before the body ends: net/http would wait for the rest first
		w.Header().Set("Connection", "close") // what was not read of the body would be taken for the next request
		pipe, err := s.manager.Stdin(id)
		if err != nil {
			writeError(w, err)
			return
		}
		ctx, cancel := s.streamContext(r.Context())
		defer cancel()
		defer pipe.Close()
		stop := context.AfterFunc(ctx, func() {
			pipe.Close()                             // ends a write that waits for a script which does not read
			control.SetReadDeadline(time.Unix(1, 0)) // ends a read that waits for a client which does not type
		})
		defer stop()
		_, err = io.Copy(pipe, r.Body)
		if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) && ctx.Err() == nil {
			writeError(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}), nil
}
