package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

type stopOptions struct {
	all     bool
	session string
}

func newStop(a *app) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use:   "stop [flags] [ID...]",
		Short: "Stop workers, or end sessions with all that is in them",
		Long: `Stop workers, or end sessions and everything in them. Prints the ids of what was stopped. With --all: every session;
with --session too, or in an engine: every worker of that session.`,
		Example: `  muster stop w8kdq21mzb6cu0ya
  muster stop --all --session c4nrr`,
		ValidArgsFunction: a.completeIDs(manyIDs),
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error { return o.run(ctx, a, cmd, args) })
	cmd.Flags().BoolVar(&o.all, "all", false, "everything")
	sessionFlag(cmd, &o.session)
	a.serverFlag(cmd)
	return cmd
}

func (o *stopOptions) run(ctx context.Context, a *app, cmd *cobra.Command, ids []string) error {
	if o.all == (len(ids) > 0) {
		return usage(cmd, "stop needs ids, or --all and no ids")
	}
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if o.all {
		return o.everything(ctx, a, c, p)
	}
	failed := false
	for _, id := range ids { // one that is wrong does not spare the others
		if err := a.stopOne(ctx, c, p, id); err != nil {
			if client.Unreachable(err) || ctx.Err() != nil {
				return err
			}
			a.report(err)
			failed = true
		}
	}
	if failed {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (a *app) stopOne(ctx context.Context, c *client.Client, p place, id string) error {
	t, err := locate(ctx, c, p, id)
	if err != nil {
		return err
	}
	if t.worker == nil {
		if err := c.EndSession(ctx, t.session); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, t.session)
		return nil
	}
	return a.stopWorkers(ctx, c, t.session, api.Stop{IDs: []string{t.worker.ID}})
}

func (a *app) stopWorkers(ctx context.Context, c *client.Client, session string, req api.Stop) error {
	stopped, err := c.Stop(ctx, session, req)
	if err != nil {
		return err
	}
	for _, r := range stopped.Results {
		if r.Status >= 400 {
			err = engine.Errorf(engine.NotFound, "the session has no worker %q", r.ID)
			continue
		}
		fmt.Fprintln(a.Out, r.ID)
	}
	return err
}

// everything ends all sessions, or all workers of the one that is meant.
func (o *stopOptions) everything(ctx context.Context, a *app, c *client.Client, p place) error {
	if o.session != "" || p.inEngine {
		session, err := theSession(ctx, c, p, o.session)
		if err != nil {
			return err
		}
		return a.stopWorkers(ctx, c, session, api.Stop{All: true})
	}
	sessions, err := c.Sessions(ctx)
	if err != nil {
		return err
	}
	for _, s := range slices.DeleteFunc(sessions, func(s api.Session) bool { return s.Ended }) {
		if err := c.EndSession(ctx, s.ID); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, s.ID)
	}
	return nil
}
