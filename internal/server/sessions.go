package server

import (
	"context"
	"errors"

	"muster/api"
	"muster/engine"
)

// The inputs and outputs of the routes under /sessions. What is embedded is exported: huma fills no other fields.
type (
	SessionPath struct {
		ID string `path:"id" doc:"a session's id, or self for the session that the token belongs to"`
	}
	sessionReply  struct{ Body api.Session }
	sessionsReply struct{ Body []api.Session }
	createInput   struct{ Body api.CreateSession }
	resizeInput   struct {
		SessionPath
		Body api.TerminalSize
	}
	empty struct{}
)

// sessionID resolves the {id} of a path, and refuses what the sender may not touch as if it did not exist.
func (s *Server) sessionID(ctx context.Context, id string) (engine.ID, error) {
	who := identity(ctx)
	if who.Person() {
		if id == "self" {
			return "", engine.Errorf(engine.NotFound, `"self" is the session whose token comes along, and this is a person's request`).
				WithHint("give the session's id; GET %s/sessions lists them", api.Base)
		}
		if u, there := s.manager.UserOf(engine.ID(id)); !who.Owner && (!there || u != who.User) {
			return "", noSession(id)
		}
		return engine.ID(id), nil
	}
	if id == "self" || engine.ID(id) == who.Session {
		return who.Session, nil
	}
	return "", noSession(id)
}

func noSession(id string) error { return engine.Errorf(engine.NotFound, "there is no session %q", id) }

// peopleOnly refuses sessions' tokens.
func peopleOnly(ctx context.Context) error {
	if identity(ctx).Person() {
		return nil
	}
	return engine.Errorf(engine.NotFound, "only people may list or start sessions, and this token is a session's").
		WithHint("the session that the token belongs to is %s/sessions/self", api.Base)
}

// by names the sender, for the evidence of an end.
func by(ctx context.Context) string {
	who := identity(ctx)
	switch {
	case who.Owner:
		return "user"
	case who.Person():
		return "user " + who.User.Name
	}
	return "session " + who.Session.Short()
}

func (s *Server) listSessions(ctx context.Context, _ *struct{}) (*sessionsReply, error) {
	if err := peopleOnly(ctx); err != nil {
		return nil, err
	}
	all := s.manager.Sessions
	if who := identity(ctx); !who.Owner {
		all = func() []api.Session { return s.manager.SessionsOf(who.User) }
	}
	list := append([]api.Session{}, all()...)
	for i := range list {
		list[i].Token = ""
	}
	return &sessionsReply{Body: list}, nil
}

func (s *Server) createSession(ctx context.Context, in *createInput) (*sessionReply, error) {
	if err := peopleOnly(ctx); err != nil {
		return nil, err
	}
	stays, err := settleOwner(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	session, err := s.manager.CreateSessionFor(ctx, identity(ctx).User, in.Body)
	if err != nil {
		return nil, err
	}
	if !stays() { // the manager may have found a stranger under its number
		return nil, errors.Join(engine.Errorf(engine.Conflict, "the session's owner, process %d, has gone", in.Body.OwnerPID),
			s.manager.EndSession(context.WithoutCancel(ctx), engine.ID(session.ID), "the end of the process that held the session"))
	}
	return &sessionReply{Body: session}, nil
}

func (s *Server) getSession(ctx context.Context, in *SessionPath) (*sessionReply, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	session, err := s.manager.Session(id)
	if err != nil {
		return nil, err
	}
	session.Token = "" // only the reply to its creation tells it
	return &sessionReply{Body: session}, nil
}

func (s *Server) endSession(ctx context.Context, in *SessionPath) (*empty, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return nil, s.manager.EndSession(ctx, id, by(ctx))
}

func (s *Server) interrupt(ctx context.Context, in *SessionPath) (*empty, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return nil, s.manager.Interrupt(ctx, id)
}

func (s *Server) resize(ctx context.Context, in *resizeInput) (*empty, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return nil, s.manager.Resize(ctx, id, in.Body)
}
