package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"muster/api"
	"muster/engine"
)

// The original's routes, for its clients and for scripts that call them with nothing but HTTP. They lead to the same methods of
// the Manager as ours. A "dashboard" is an engine: the original's word.
//
// Where the original's behaviour is not known: a launch is answered with 200; a refused one with 400 and the refused worker's
// description, so that a client which appends whatever it got has what it expects; the workers of a worker are those of its
// session, because its own launches are attached there; stopping a session's own engine ends the session.

// The inputs of these routes.
type (
	ProjectPath struct {
		Owner string `path:"owner" doc:"the project's owner"`
		Slug  string `path:"slug" doc:"the project's name"`
	}
	DashboardPath struct {
		ProjectPath
		ID string `path:"id" doc:"an engine's id"`
	}
	dashboardInput struct {
		ProjectPath
		Body api.LaunchEngine
	}
	siteReply struct{ Body api.SiteConfig }
)

// registerOriginal is the table of the original's routes.
func (s *Server) registerOriginal() {
	const dashboards = "/projects/{owner}/{slug}/dashboards"
	at := api.Original
	addAt(s, at, "POST", dashboards, "launchDashboard", "Launch one worker; it starts when this reply was sent. Refused: a description without id",
		s.launchDashboard, anyContentType, repliesSchema[api.Worker](typeJSON))
	addAt(s, at, "GET", dashboards+"/{id}", "getDashboard", "One engine", s.getDashboard)
	addAt(s, at, "PUT", dashboards+"/{id}/stop", "stopDashboard", "Stop a worker, or end a session", s.stopDashboard, noContent)
	addAt(s, at, "GET", dashboards+"/{id}/workers", "listDashboardWorkers", "The session's workers, newest first", s.dashboardWorkers,
		repliesSchema[[]api.Worker](typeJSON))
	addAt(s, at, "GET", "/site/config", "getSiteConfig", "What an engine can have here", s.siteConfig)
	addAt(s, "", "GET", "/{owner}/{slug}/engines/{id}", "getEnginePage", "A page about one engine: where html_url leads", s.enginePage,
		replies(typeHTML))
}

// anyContentType takes the body for JSON whatever it calls itself: Python's urllib and old clients call it a form.
func anyContentType(_ *Server, op *huma.Operation) {
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		r.Header.Set("Content-Type", typeJSON)
		next(ctx)
	})
}

// find finds an engine by its whole id, in the project that the path names.
func (s *Server) find(ctx context.Context, p DashboardPath) (api.Worker, engine.ID, error) {
	none := engine.Errorf(engine.NotFound, "there is no engine %q in the project %s/%s", p.ID, p.Owner, p.Slug)
	if !engine.ID(p.ID).Valid() { // the beginning of an id
		return api.Worker{}, "", none
	}
	w, session, err := s.findEngine(ctx, p.ID)
	if engine.KindOf(err) == engine.NotFound || err == nil && w.Project.Slug != p.Owner+"/"+p.Slug {
		return api.Worker{}, "", none
	}
	return w, session, err
}

func (s *Server) launchDashboard(ctx context.Context, in *dashboardInput) (*huma.StreamResponse, error) {
	return plain(func(w http.ResponseWriter, r *http.Request) {
		session, req, err := s.launchOf(r.Context(), in)
		if err != nil {
			writeRefused(w, err)
			return
		}
		reply, release, err := s.manager.Launch(r.Context(), session, req)
		if release != nil {
			defer release() // however the writing ends, also by a panic
		}
		switch {
		case err != nil:
			writeRefused(w, err)
			return
		case len(reply.Workers) != 1:
			writeRefused(w, engine.Errorf(engine.Internal, "one worker was asked for, the launch answers with %d", len(reply.Workers)))
			return
		}
		status := http.StatusOK
		if reply.Workers[0].ID == "" {
			status = http.StatusBadRequest
		}
		writeJSON(w, status, reply.Workers[0])
		http.NewResponseController(w).Flush()
	}), nil
}

// launchOf finds the session that is to launch, and reads what.
func (s *Server) launchOf(ctx context.Context, in *dashboardInput) (engine.ID, api.LaunchWorkers, error) {
	master, err := textOf("master_id", in.Body.MasterID)
	if err != nil {
		return "", api.LaunchWorkers{}, err
	}
	who := identity(ctx)
	if master == "" && who.Person() {
		return "", api.LaunchWorkers{}, engine.Errorf(engine.Invalid, "master_id is missing, and the request is a person's and of no session").
			WithHint("give the id of the session that the worker is to belong to")
	}
	if master == "" {
		master = string(who.Session)
	}
	_, session, err := s.find(ctx, DashboardPath{ProjectPath: in.ProjectPath, ID: master})
	if err != nil {
		return "", api.LaunchWorkers{}, err
	}
	req, err := launchRequest(in.Body)
	return session, req, err
}

// writeRefused sends err as an error of ours that has also the keys that clients of the original look for.
func writeRefused(w http.ResponseWriter, err error) {
	p := problem(err)
	writeJSON(w, p.status, api.Refused{Error: p.body, K8sMessage: p.Message})
}

func (s *Server) getDashboard(ctx context.Context, in *DashboardPath) (*engineReply, error) {
	w, _, err := s.find(ctx, *in)
	if err != nil {
		return nil, err
	}
	return &engineReply{Body: w}, nil
}

func (s *Server) stopDashboard(ctx context.Context, in *DashboardPath) (*empty, error) {
	w, session, err := s.find(ctx, *in)
	if err != nil {
		return nil, err
	}
	if engine.ID(w.ID) == session {
		return nil, s.manager.EndSession(ctx, session, by(ctx))
	}
	_, err = s.manager.Stop(ctx, session, api.Stop{IDs: []string{w.ID}}, by(ctx))
	return nil, err
}

func (s *Server) dashboardWorkers(ctx context.Context, in *DashboardPath) (*huma.StreamResponse, error) {
	_, session, err := s.find(ctx, *in)
	if err != nil {
		return nil, err
	}
	return s.list(session, "", writeArray), nil
}

func (s *Server) siteConfig(context.Context, *struct{}) (*siteReply, error) {
	return &siteReply{Body: s.site}, nil
}
