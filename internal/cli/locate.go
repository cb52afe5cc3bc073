package cli

import (
	"context"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

// target is what an id on the command line means: a session (worker is nil) or one of its workers.
type target struct {
	session string
	worker  *api.Worker
}

// locate finds out what an id, or the beginning of one, means.
func locate(ctx context.Context, c *client.Client, id string) (target, error) {
	s, err := c.Session(ctx, id)
	if err == nil {
		return target{session: s.ID}, nil
	}
	if engine.KindOf(err) != engine.NotFound {
		return target{}, err
	}
	w, err := c.Engine(ctx, id)
	if err != nil {
		if engine.KindOf(err) == engine.NotFound {
			err = engine.Errorf(engine.NotFound, "there is no session or worker %q", id).WithHint("muster ps -a")
		}
		return target{}, err
	}
	if w.ID == w.MasterID { // the beginning of a session's id, which is also that of its own engine
		return target{session: w.ID}, nil
	}
	return target{session: w.MasterID, worker: &w}, nil
}

// sessionFlag adds --session.
func sessionFlag(cmd *cobra.Command, session *string) {
	cmd.Flags().StringVar(session, "session", "", "the session's `id` (in an engine: its own)")
}

// sessionHint says how to name the session to a command that has --session.
const sessionHint = "muster ps, and then --session ID"

// theSession is the session that a command is about: the one named, or the engine's own. hint says how to name it.
func theSession(ctx context.Context, c *client.Client, p place, named, hint string) (string, error) {
	if named == "" {
		if p.inEngine {
			return "self", nil
		}
		return "", &usageError{err: engine.Errorf(engine.Invalid, "which session? This is no engine, so it must be named"),
			hint: hint}
	}
	t, err := locate(ctx, c, named)
	if err == nil && t.worker != nil {
		err = engine.Errorf(engine.Invalid, "%s is a worker, not a session", named)
	}
	return t.session, err
}
