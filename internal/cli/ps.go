package cli

import (
	"context"
	"os/user"
	"slices"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

type psOptions struct {
	all, json bool
	group     string
}

// sessionAndWorkers is one entry of "ps --json".
type sessionAndWorkers struct {
	Session api.Session  `json:"session"`
	Workers []api.Worker `json:"workers"`
}

func newPs(a *app) *cobra.Command {
	o := &psOptions{}
	cmd := &cobra.Command{
		Use:     "ps [flags]",
		Short:   "List sessions and workers",
		Long:    "List the sessions and under each its workers, the oldest first. In an engine: its own session.",
		Example: "  muster ps\n  muster ps -a --json",
		Args:    noArgs,
	}
	cmd.RunE = a.action(func(ctx context.Context, _ []string) error {
		if err := checkGroup(cmd); err != nil {
			return err
		}
		return o.run(ctx, a)
	})
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "also those that have ended")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the API's answers as JSON")
	cmd.Flags().StringVar(&o.group, "group", "", "only the workers of this `name`")
	a.serverFlag(cmd)
	return cmd
}

func (o *psOptions) run(ctx context.Context, a *app) error {
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := o.list(ctx, c, p)
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(list)
	}
	head, of := rowHead, func(_ api.Session, row string) string { return row }
	if others(list) {
		head, of = "USER\t"+rowHead, func(s api.Session, row string) string { return orElse(s.User, "owner") + "\t" + row }
	}
	var rows []string
	for _, e := range list {
		rows = append(rows, of(e.Session, a.row(e.Session.Kind, own(e.Session))))
		for _, w := range e.Workers {
			rows = append(rows, of(e.Session, a.row("worker", w)))
		}
	}
	return table(a.Out, head, rows)
}

// others reports whether there are sessions of several users, or of one who does not go by the name of this command's.
func others(list []sessionAndWorkers) bool {
	me, err := user.Current()
	return slices.ContainsFunc(list, func(e sessionAndWorkers) bool {
		of := e.Session.User
		return of != list[0].Session.User || of != "" && (err != nil || of != me.Username)
	})
}

// own is a session's own engine, with the session's name.
func own(s api.Session) api.Worker {
	w := s.Engine
	if w.ID == "" {
		w.ID = s.ID
	}
	if s.Name != "" {
		w.Name = s.Name
	}
	return w
}

// list asks for the sessions and their workers. A session that goes away between the questions is left out.
func (o *psOptions) list(ctx context.Context, c *client.Client, p place) ([]sessionAndWorkers, error) {
	sessions, err := visible(ctx, c, p)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(sessions, func(x, y api.Session) int { return x.CreatedAt.Compare(y.CreatedAt) })
	list := []sessionAndWorkers{}
	for _, s := range sessions {
		if s.Ended && !o.all {
			continue
		}
		workers, err := c.Workers(ctx, s.ID, o.group)
		if engine.KindOf(err) == engine.NotFound && err != nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		entry := sessionAndWorkers{Session: s, Workers: []api.Worker{}}
		for _, w := range slices.Backward(workers.Workers) {
			if o.all || !engine.Status(w.Status).Final() {
				entry.Workers = append(entry.Workers, w)
			}
		}
		list = append(list, entry)
	}
	return list, nil
}

// visible lists the sessions that the sender may see.
func visible(ctx context.Context, c *client.Client, p place) ([]api.Session, error) {
	if !p.inEngine {
		return c.Sessions(ctx)
	}
	own, err := c.Session(ctx, "self")
	return []api.Session{own}, err
}
