package cli

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

type restartOptions struct {
	json bool
}

func newRestart(a *app) *cobra.Command {
	o := &restartOptions{}
	cmd := &cobra.Command{
		Use:   "restart [flags] ID...",
		Short: "Start the work of workers again",
		Long: `Start the work of workers again, whether they have ended or not: those that live are stopped first. What is started are new
workers, whose ids are printed, one a line. Those that cannot be started are told on stderr, and the exit code is 1.`,
		Example:           "  muster restart w8kdq21mzb6cu0ya\n  muster restart w8kd x1ab",
		ValidArgsFunction: a.completeIDs(manyIDs),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "restart needs the id of a worker")
			}
			return nil
		},
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error { return o.run(ctx, a, args) })
	cmd.Flags().BoolVar(&o.json, "json", false, "print the API's answer as JSON")
	a.serverFlag(cmd)
	return cmd
}

func (o *restartOptions) run(ctx context.Context, a *app, args []string) error {
	c, _, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	all, err := o.which(ctx, c, args)
	if err != nil {
		return err
	}
	var reply api.Workers
	for _, d := range all { // the workers of a session with one request, so that their times to end run together
		var r api.Workers
		if r, err = c.Restart(ctx, d.session, api.Restart{IDs: d.workers}); err != nil {
			break
		}
		reply.Workers = append(reply.Workers, r.Workers...)
	}
	if err != nil && len(reply.Workers) == 0 {
		return err
	}
	return cmp.Or(err, tellLaunched(a, reply, o.json)) // what runs is told in any case
}

// which finds the workers that are named, by their sessions. Nothing is restarted if one of them is none.
func (o *restartOptions) which(ctx context.Context, c *client.Client, ids []string) (all []*doomed, err error) {
	for _, id := range ids {
		t, err := locate(ctx, c, id)
		if err != nil {
			return nil, err
		}
		if t.worker == nil {
			return nil, engine.Errorf(engine.Invalid, "%s is a session, and only workers are restarted", id).
				WithHint("muster run starts its script again")
		}
		all = t.add(all)
	}
	return all, nil
}
