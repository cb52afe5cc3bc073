package server

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
	"muster/engine"
)

// The inputs and outputs of the routes about workers.
type (
	launchInput struct {
		SessionPath
		Body api.LaunchWorkers
	}
	listInput struct {
		SessionPath
		Group string `query:"group" doc:"only the workers of this group"`
	}
	restartInput struct {
		SessionPath
		Body api.Restart
	}
	stopInput struct {
		SessionPath
		Body api.Stop
	}
	EnginePath struct {
		ID string `path:"id" doc:"an engine's id, or the beginning of one that no other has"`
	}
	stoppedReply struct{ Body api.Stopped }
	engineReply  struct{ Body api.Worker }
)

// launch answers first and then lets the workers begin: the master's next line should run before a worker's first.
func (s *Server) launch(ctx context.Context, in *launchInput) (*huma.StreamResponse, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.launching(id, in.Body.N, func(ctx context.Context) (api.Workers, func(), error) {
		return s.manager.Launch(ctx, id, in.Body)
	}), nil
}

// restart is a launch of what was launched before.
func (s *Server) restart(ctx context.Context, in *restartInput) (*huma.StreamResponse, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.launching(id, len(in.Body.IDs), func(ctx context.Context) (api.Workers, func(), error) {
		return s.manager.Restart(ctx, id, in.Body, by(ctx))
	}), nil
}

// launching answers a request for n workers, and then lets them begin.
func (s *Server) launching(id engine.ID, n int, do func(context.Context) (api.Workers, func(), error)) *huma.StreamResponse {
	return plain(func(w http.ResponseWriter, r *http.Request) {
		turn, err := s.replyTurn(r.Context(), id, n)
		if err != nil {
			writeError(w, err)
			return
		}
		defer turn()
		reply, release, err := do(r.Context())
		if release != nil {
			defer release() // however the writing ends, also by a panic
		}
		if err != nil {
			writeError(w, err)
			return
		}
		reply.Workers = append([]api.Worker{}, reply.Workers...) // [] and not null
		writeJSON(w, http.StatusOK, reply)                       // as a whole, with its length: else its end would come after the release
		http.NewResponseController(w).Flush()
	})
}

func (s *Server) workers(ctx context.Context, in *listInput) (*huma.StreamResponse, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.list(id, in.Group, func(w io.Writer, all []api.Worker) { writeWorkers(w, "", "", workerList{"workers", all}) }), nil
}

// list sends all workers of a session, or those of a group, when it is their turn.
func (s *Server) list(session engine.ID, group string, write func(io.Writer, []api.Worker)) *huma.StreamResponse {
	return plain(func(w http.ResponseWriter, r *http.Request) {
		turn, err := s.listTurn(r.Context(), session)
		if err != nil {
			writeError(w, err)
			return
		}
		defer turn()
		all, err := s.manager.Workers(session, group)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", typeJSON)
		write(w, all.Workers)
	})
}

func (s *Server) stop(ctx context.Context, in *stopInput) (*stoppedReply, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	stopped, err := s.manager.Stop(ctx, id, in.Body, by(ctx))
	if err != nil {
		return nil, err
	}
	stopped.Results = append([]api.StopResult{}, stopped.Results...)
	return &stoppedReply{Body: stopped}, nil
}

func (s *Server) getEngine(ctx context.Context, in *EnginePath) (*engineReply, error) {
	w, _, err := s.findEngine(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &engineReply{Body: w}, nil
}

// findEngine finds an engine that the sender may see, and its session. A session's token looks among its own engines
// only, a user among those of his sessions: whether a prefix is ambiguous must not tell of the others.
func (s *Server) findEngine(ctx context.Context, id string) (api.Worker, engine.ID, error) {
	who := identity(ctx)
	if who.Person() && !who.Owner {
		return s.manager.EngineOf(who.User, id)
	}
	return s.manager.Engine(who.Session, id) // the owner's is ""
}
