package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

type stopOptions struct {
	all     bool
	json    bool
	session string
	group   string
	results []api.StopResult
}

func newStop(a *app) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use:   "stop [flags] [ID...]",
		Short: "Stop workers, or end sessions with all that is in them",
		Long: `Stop workers, or end sessions and everything in them. Prints the ids of what was stopped. With --all: every session;
with --session too, or in an engine: every worker of that session, and with --group only those of the group.`,
		Example: `  muster stop w8kdq21mzb6cu0ya
  muster stop --all --session c4nrr
  muster stop --all --session c4nrr --group fits`,
		ValidArgsFunction: a.completeIDs(manyIDs),
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error { return o.run(ctx, a, cmd, args) })
	cmd.Flags().BoolVar(&o.all, "all", false, "everything")
	cmd.Flags().StringVar(&o.group, "group", "", "with --all: the workers of this `name`")
	cmd.Flags().BoolVar(&o.json, "json", false, "print ids and their status (204: stopped, 404: unknown) as JSON")
	sessionFlag(cmd, &o.session)
	a.serverFlag(cmd)
	return cmd
}

func (o *stopOptions) run(ctx context.Context, a *app, cmd *cobra.Command, ids []string) error {
	if err := checkGroup(cmd); err != nil {
		return err
	}
	if o.all == (len(ids) > 0) {
		return usage(cmd, "stop needs ids, or --all and no ids")
	}
	if o.group != "" && !o.all {
		return usage(cmd, "--group goes with --all")
	}
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if o.all {
		err = o.everything(ctx, a, c, p)
	} else {
		err = o.named(ctx, a, c, ids)
	}
	if o.json {
		return errors.Join(a.printJSON(append([]api.StopResult{}, o.results...)), err)
	}
	return err
}

// tell notes what became of an id, and prints it unless all are printed at the end.
func (o *stopOptions) tell(a *app, r api.StopResult) {
	o.results = append(o.results, r)
	if !o.json && r.Status < 400 {
		fmt.Fprintln(a.Out, r.ID)
	}
}

// doomed is what is to be stopped in one session.
type doomed struct {
	session string
	workers []string
	whole   bool // the session too
}

// named stops what ids mean, the workers of a session with one request, so that their times to end run together. An
// id that is wrong does not spare the others.
func (o *stopOptions) named(ctx context.Context, a *app, c *client.Client, ids []string) error {
	failed := false
	told := func(err error) error {
		if err == nil || client.Unreachable(err) || ctx.Err() != nil {
			return err
		}
		a.report(err)
		failed = true
		return nil
	}
	var all []*doomed
	for _, id := range ids {
		t, err := locate(ctx, c, id)
		if err != nil {
			if engine.KindOf(err) == engine.NotFound {
				o.tell(a, api.StopResult{ID: id, Status: 404})
			}
			if err := told(err); err != nil {
				return err
			}
			continue
		}
		all = t.add(all)
	}
	for _, d := range all {
		if err := told(o.in(ctx, a, c, d)); err != nil {
			return err
		}
	}
	if failed {
		return &exitError{code: exitFailed}
	}
	return nil
}

// add puts t to what else is to be stopped in its session.
func (t target) add(all []*doomed) []*doomed {
	i := slices.IndexFunc(all, func(d *doomed) bool { return d.session == t.session })
	if i < 0 {
		i, all = len(all), append(all, &doomed{session: t.session})
	}
	if t.worker == nil {
		all[i].whole = true
	} else if !slices.Contains(all[i].workers, t.worker.ID) {
		all[i].workers = append(all[i].workers, t.worker.ID)
	}
	return all
}

// in stops what is doomed in one session.
func (o *stopOptions) in(ctx context.Context, a *app, c *client.Client, d *doomed) error {
	var err error
	if len(d.workers) > 0 {
		err = o.workers(ctx, a, c, d.session, api.Stop{IDs: d.workers})
	}
	if !d.whole {
		return err
	}
	if endErr := c.EndSession(ctx, d.session); endErr != nil {
		return errors.Join(err, endErr)
	}
	o.tell(a, ended(d.session))
	return err
}

// ended is the answer that the API would give for a session, had it one.
func ended(session string) api.StopResult { return api.StopResult{ID: session, Status: 204} }

func (o *stopOptions) workers(ctx context.Context, a *app, c *client.Client, session string, req api.Stop) error {
	stopped, err := c.Stop(ctx, session, req)
	if err != nil {
		return err
	}
	for _, r := range stopped.Results {
		o.tell(a, r)
		if r.Status >= 400 {
			err = engine.Errorf(engine.NotFound, "the session has no worker %q", r.ID)
		}
	}
	return err
}

// everything ends all sessions, or all workers of the one that is meant.
func (o *stopOptions) everything(ctx context.Context, a *app, c *client.Client, p place) error {
	if o.session != "" || o.group != "" || p.inEngine {
		session, err := theSession(ctx, c, p, o.session, sessionHint)
		if err != nil {
			return err
		}
		return o.workers(ctx, a, c, session, api.Stop{All: o.group == "", Group: o.group})
	}
	sessions, err := c.Sessions(ctx)
	if err != nil {
		return err
	}
	for _, s := range slices.DeleteFunc(sessions, func(s api.Session) bool { return s.Ended }) {
		if err := c.EndSession(ctx, s.ID); err != nil {
			return err
		}
		o.tell(a, ended(s.ID))
	}
	return nil
}
