package server

import (
	"context"
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
	id, err := sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		turn, err := s.replyTurn(r.Context(), id, in.Body.N)
		if err != nil {
			writeError(w, err)
			return
		}
		defer turn()
		reply, release, err := s.manager.Launch(r.Context(), id, in.Body)
		if release != nil {
			defer release() // however the writing ends, also by a panic
		}
		if err != nil {
			writeError(w, err)
			return
		}
		reply.Workers = append([]api.Worker{}, reply.Workers...) // [] and not null
		writeJSON(w, http.StatusOK, reply)
		http.NewResponseController(w).Flush()
	}), nil
}

func (s *Server) workers(ctx context.Context, in *SessionPath) (*huma.StreamResponse, error) {
	id, err := sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		turn, err := s.listTurn(r.Context(), id)
		if err != nil {
			writeError(w, err)
			return
		}
		defer turn()
		list, err := s.manager.Workers(id)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", typeJSON)
		writeWorkers(w, "", "", workerList{"workers", list.Workers})
	}), nil
}

func (s *Server) stop(ctx context.Context, in *stopInput) (*stoppedReply, error) {
	id, err := sessionID(ctx, in.ID)
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
// only: whether a prefix is ambiguous must not tell of the others.
func (s *Server) findEngine(ctx context.Context, id string) (api.Worker, engine.ID, error) {
	who := identity(ctx)
	if who.Owner {
		return s.manager.Engine(id)
	}
	var found []api.Worker
	own, err := s.manager.Session(who.Session)
	if err != nil {
		return api.Worker{}, "", err
	}
	turn, err := s.listTurn(ctx, who.Session)
	if err != nil {
		return api.Worker{}, "", err
	}
	defer turn()
	list, err := s.manager.Workers(who.Session)
	if err != nil {
		return api.Worker{}, "", err
	}
	for _, w := range append(list.Workers, own.Engine) {
		if w.ID == id {
			return w, who.Session, nil
		}
		if id != "" && len(w.ID) >= len(id) && w.ID[:len(id)] == id {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return api.Worker{}, "", engine.Errorf(engine.NotFound, "there is no engine %q", id)
	case 1:
		return found[0], who.Session, nil
	default:
		return api.Worker{}, "", engine.Errorf(engine.Conflict, "the ids of %d engines begin with %q", len(found), id).
			WithHint("give more letters of the id")
	}
}
