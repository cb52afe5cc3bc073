package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

type awaitOptions struct {
	session string
	group   string
	running bool
	timeout time.Duration
	json    bool
}

func newAwait(a *app) *cobra.Command {
	o := &awaitOptions{}
	cmd := &cobra.Command{
		Use:   "await [flags] [ID...]",
		Short: "Wait for workers to succeed, or to run",
		Long: `Wait until the workers, or all of the session's, have succeeded. Those that failed, or were not done in time, are listed
with the reason, and the exit code is 1. A worker that is tried again counts as one, and is told of by its last attempt.`,
		Example:           "  muster await --session c4nrr --timeout 10m\n  muster await --running w8kd",
		ValidArgsFunction: a.completeIDs(manyIDs),
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error { return o.run(ctx, a, cmd, args) })
	cmd.Flags().StringVar(&o.group, "group", "", "await the workers of this `name`")
	cmd.Flags().BoolVar(&o.running, "running", false, "only until they run")
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "give up after this `time`; 0: never")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the API's answer as JSON")
	sessionFlag(cmd, &o.session)
	a.serverFlag(cmd)
	return cmd
}

func (o *awaitOptions) run(ctx context.Context, a *app, cmd *cobra.Command, args []string) error {
	if o.timeout < 0 {
		return usage(cmd, "--timeout is %v: it must not be negative", o.timeout)
	}
	if err := checkGroup(cmd); err != nil {
		return err
	}
	if o.group != "" && len(args) > 0 {
		return usage(cmd, "await takes ids or --group, and was given both")
	}
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	session, ids, err := o.which(ctx, c, p, args)
	if err != nil {
		return err
	}
	req := api.Await{IDs: ids, All: len(ids) == 0 && o.group == "", Group: o.group, Completion: !o.running, Timeout: o.timeout.Seconds()}
	line := &progressLine{a: a, doing: "awaiting workers"}
	defer line.close()
	awaited, err := c.Await(ctx, session, req, line.show)
	line.close()
	if err != nil {
		return err
	}
	return o.tell(a, awaited)
}

// which finds the session and the whole ids of the workers that were named.
func (o *awaitOptions) which(ctx context.Context, c *client.Client, p place, args []string) (session string, ids []string, err error) {
	if len(args) == 0 || o.session != "" {
		if session, err = theSession(ctx, c, p, o.session, "muster ps, and then: muster await ID of workers, or --session ID for all of a session"); err != nil {
			return "", nil, err
		}
	}
	for _, id := range args {
		t, err := locate(ctx, c, id)
		switch {
		case err != nil:
			return "", nil, err
		case t.worker == nil:
			return "", nil, engine.Errorf(engine.Invalid, "%s is a session, and only workers are awaited", id).
				WithHint("muster await --session %s", id)
		case session != "" && session != t.session:
			return "", nil, engine.Errorf(engine.Invalid, "worker %s belongs to session %s, not to %s", id, t.session, session)
		}
		session = t.session
		ids = append(ids, t.worker.ID)
	}
	return session, ids, nil
}

func (o *awaitOptions) tell(a *app, awaited api.Awaited) error {
	var err error
	if len(awaited.Failures) > 0 {
		err = &exitError{code: exitFailed}
	}
	if o.json {
		if jsonErr := a.printJSON(awaited); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	reached := "succeeded"
	if o.running {
		reached = "running"
	}
	fmt.Fprintf(a.Out, "%d of %d workers %s\n", len(awaited.Workers), len(awaited.Workers)+len(awaited.Failures), reached)
	if err != nil {
		var rows []string
		for _, w := range awaited.Failures {
			rows = append(rows, strings.Join([]string{orDash(w.ID), orDash(w.Name), w.Status, orDash(reason(w))}, "\t"))
		}
		table(a.Err, "ID\tNAME\tSTATUS\tREASON", rows)
	}
	return err
}

// progressLine is a line on a terminal that says how far a wait is. It appears after a while, and goes again.
type progressLine struct {
	a     *app
	doing string

	mu     sync.Mutex
	latest api.AwaitProgress
	timer  *time.Timer
	due    bool // the wait lasts long enough
	shown  bool
	closed bool
}

func (l *progressLine) show(p api.AwaitProgress) {
	if !l.a.ErrTerminal {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest = p
	if l.timer == nil {
		l.timer = time.AfterFunc(l.a.progressDelay, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.due = true
			l.draw()
		})
	}
	l.draw()
}

func (l *progressLine) draw() {
	if !l.due || l.closed {
		return
	}
	text := fmt.Sprintf("%s: %d of %d", l.doing, l.latest.Done, l.latest.Of)
	if l.latest.Waiting != "" {
		text += ", waiting: " + clean(l.latest.Waiting)
	}
	if r := []rune(text); len(r) > 79 {
		text = string(r[:78]) + "…"
	}
	fmt.Fprintf(l.a.Err, "\r%s\x1b[K", text)
	l.shown = true
}

// close takes the line away.
func (l *progressLine) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.shown && !l.closed {
		fmt.Fprint(l.a.Err, "\r\x1b[K")
	}
	l.closed = true
}
