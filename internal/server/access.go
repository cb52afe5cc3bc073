package server

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
	"muster/engine"
)

// Access is what the server needs to know of who may come in beyond sessions: tokens that people make, and who did what.
type Access interface {
	// CreateToken makes a token of a user's (zero: the owner's) and returns it with its secret, ListTokens and RevokeToken
	// are about those of the users that mine picks.
	CreateToken(ctx context.Context, u engine.User, name string, good time.Duration) (api.Token, error)
	ListTokens(mine func(engine.User) bool) []api.Token
	RevokeToken(ctx context.Context, id string, mine func(engine.User) bool) error
	// UserNamed finds a user of the machine who may use this server.
	UserNamed(ctx context.Context, name string) (engine.User, error)
	// Until ends when an identity does: a token that is revoked or expires. Of others it never does.
	Until(who Identity) context.Context
	// Audit calls do for every recorded request since a time, oldest first.
	Audit(since time.Time, do func(api.AuditEntry) error) error
}

type (
	createTokenInput struct{ Body api.CreateToken }
	tokenReply       struct{ Body api.Token }
	tokensReply      struct{ Body []api.Token }
	tokenPath        struct {
		ID string `path:"id" doc:"a token's id, which is not the token"`
	}
	auditInput struct {
		User  string `query:"user" doc:"only what this user did; owner is the server's"`
		Since string `query:"since" doc:"RFC 3339; empty: from the beginning"`
	}
)

// registerAccess is the table of the routes about who may come in.
func (s *Server) registerAccess() {
	add(s, "POST", "/tokens", "createToken", "Make a token for TCP; the reply alone tells it", s.createToken, created)
	add(s, "GET", "/tokens", "listTokens", "The tokens that one may see: the owner all, a user the own ones", s.listTokens)
	add(s, "DELETE", "/tokens/{id}", "revokeToken", "Revoke a token; what is being answered of it ends", s.revokeToken)
	add(s, "GET", "/audit", "readAudit", "Who asked for what (owner only), as lines of AuditEntry", s.audit,
		repliesSchema[api.AuditEntry](typeNDJSON))
}

// access is the Access of a person who asks.
func (s *Server) accessFor(ctx context.Context) (Access, Identity, error) {
	who := identity(ctx)
	switch {
	case !who.Person():
		return nil, who, engine.Errorf(engine.NotFound, "tokens are for people, and this one is a session's")
	case s.access == nil:
		return nil, who, engine.Errorf(engine.Unavailable, "this server keeps no tokens and no record: it ends with its session").
			WithHint("start a server with: muster up")
	}
	return s.access, who, nil
}

// mine picks whose tokens who may see.
func mine(who Identity) func(engine.User) bool {
	return func(u engine.User) bool { return who.Owner || u == who.User }
}

func (s *Server) createToken(ctx context.Context, in *createTokenInput) (*tokenReply, error) {
	access, who, err := s.accessFor(ctx)
	if err != nil {
		return nil, err
	}
	if who.Token != "" { // else one that was stolen for a day would be good for ever
		return nil, engine.Errorf(engine.Invalid, "a token makes no other tokens").
			WithHint("ask on the server's machine, through its socket")
	}
	u := who.User
	if in.Body.User != "" && in.Body.User != u.Name {
		if !who.Owner {
			return nil, engine.Errorf(engine.Invalid, "user %s may make no token for another user", who.User.Name)
		}
		if u, err = access.UserNamed(ctx, in.Body.User); err != nil {
			return nil, err
		}
	}
	const longest = 100 * 365 * 24 * time.Hour
	if seconds := in.Body.Seconds; !(seconds >= 0 && seconds <= longest.Seconds()) {
		return nil, engine.Errorf(engine.Invalid, "good_for_seconds must be from 0, which is for ever, to %.0f, not %v", longest.Seconds(), seconds)
	}
	good := time.Duration(math.Ceil(in.Body.Seconds * float64(time.Second))) // not down to 0, which is for ever
	t, err := access.CreateToken(ctx, u, in.Body.Name, good)
	if err != nil {
		return nil, err
	}
	return &tokenReply{Body: t}, nil
}

func (s *Server) listTokens(ctx context.Context, _ *struct{}) (*tokensReply, error) {
	access, who, err := s.accessFor(ctx)
	if err != nil {
		return nil, err
	}
	return &tokensReply{Body: access.ListTokens(mine(who))}, nil
}

func (s *Server) revokeToken(ctx context.Context, in *tokenPath) (*empty, error) {
	access, who, err := s.accessFor(ctx)
	if err != nil {
		return nil, err
	}
	return nil, access.RevokeToken(ctx, in.ID, mine(who))
}

// audit streams what is recorded.
func (s *Server) audit(ctx context.Context, in *auditInput) (*huma.StreamResponse, error) {
	access, who, err := s.accessFor(ctx)
	if err != nil {
		return nil, err
	}
	if !who.Owner {
		return nil, engine.Errorf(engine.NotFound, "the record of requests is for the server's owner")
	}
	var since time.Time
	if in.Since != "" {
		if since, err = time.Parse(time.RFC3339, in.Since); err != nil {
			return nil, engine.Errorf(engine.Invalid, "since is %q: it must be a time such as 2026-01-31T08:00:00Z", in.Since)
		}
	}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", typeNDJSON)
		lines := json.NewEncoder(w)
		err := access.Audit(since, func(e api.AuditEntry) error {
			if in.User != "" && e.User != in.User {
				return nil
			}
			if err := r.Context().Err(); err != nil {
				return err
			}
			return lines.Encode(e)
		})
		if err != nil {
			s.log.Warn("the record of requests cannot be read", "error", err)
			panic(http.ErrAbortHandler)
		}
	}), nil
}
