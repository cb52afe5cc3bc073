package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"muster/api"
)

type launchOptions struct {
	session string
	env     []string
	json    bool
	limit   time.Duration
	req     api.LaunchWorkers
}

func newLaunch(a *app) *cobra.Command {
	o := &launchOptions{req: api.LaunchWorkers{N: 1, OrElse: true}}
	cmd := &cobra.Command{
		Use:   "launch [flags] (FILE | -c CODE)",
		Short: "Launch workers in a session",
		Long: `Launch workers in a session and print their ids, one a line. FILE is relative to the session's project. Workers that are
refused are told on stderr, and the exit code is 1.`,
		Example: `  muster launch --session c4nrr -n 4 --cpu 0.5 --memory 2 worker.py
  muster launch -c 'print("hello")'
  muster launch --retries 2 --time-limit 1h --group fits fit.py`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch coded := cmd.Flags().Changed("code"); {
			case coded && len(args) > 0:
				return usage(cmd, "launch needs a FILE or -c CODE, and was given both")
			case !coded && len(args) != 1:
				return usage(cmd, "launch needs one FILE, or code with -c")
			}
			return nil
		},
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error { return o.run(ctx, a, cmd, args) })
	f := cmd.Flags()
	f.IntVarP(&o.req.N, "number", "n", 1, "how `many`")
	f.StringVarP(&o.req.Code, "code", "c", "", "run this `code` instead of a file")
	f.StringVar(&o.req.Group, "group", "", "label them with this `name`, which ps, await and stop take")
	f.IntVar(&o.req.Retries, "retries", 0, "start one that failed again, at most so `often`")
	f.DurationVar(&o.limit, "time-limit", 0, "end one that has run for this `time`; 0: none")
	f.BoolVar(&o.json, "json", false, "print the API's answer as JSON")
	workloadFlags(cmd, &o.req.Kernel, &o.req.CPU, &o.req.Memory, &o.req.GPUs, &o.env, &o.req.Name)
	f.Lookup("cpu").Usage = "CPU `cores` (default: the project's, else 1)"
	f.Lookup("memory").Usage = "memory limit in `GB` (default: the project's, else 1)"
	sessionFlag(cmd, &o.session)
	a.serverFlag(cmd)
	return cmd
}

func (o *launchOptions) run(ctx context.Context, a *app, cmd *cobra.Command, args []string) (err error) {
	if len(args) == 1 {
		o.req.Script = args[0]
	}
	if o.req.N < 1 {
		return usage(cmd, "--number is %d: it must be 1 or more", o.req.N)
	}
	if o.req.Retries < 0 || o.limit < 0 {
		return usage(cmd, "--retries and --time-limit must not be negative")
	}
	if o.limit > maxTimeLimit {
		return usage(cmd, "--time-limit is %s: it must be at most ten years (%dh)", cmd.Flags().Lookup("time-limit").Value, maxTimeLimit/time.Hour)
	}
	if err := checkGroup(cmd); err != nil {
		return err
	}
	o.req.TimeLimit = o.limit.Seconds()
	if err := checkWorkload(cmd, o.req.CPU, o.req.Memory, o.req.GPUs, []string{o.req.Script, o.req.Code, o.req.Name}); err != nil {
		return err
	}
	if o.req.Env, err = a.environment(cmd, o.env); err != nil {
		return err
	}
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	session, err := theSession(ctx, c, p, o.session, sessionHint)
	if err != nil {
		return err
	}
	reply, err := c.Launch(ctx, session, o.req)
	if err != nil {
		return err
	}
	return tellLaunched(a, reply, o.json)
}

// maxTimeLimit is the server's.
const maxTimeLimit = 10 * 365 * 24 * time.Hour

// checkGroup refuses an empty --group, such as a variable that is not set: all workers would be meant.
func checkGroup(cmd *cobra.Command) error {
	if f := cmd.Flags().Lookup("group"); f.Changed && f.Value.String() == "" {
		return usage(cmd, "--group is empty: give a name, or leave it out")
	}
	return nil
}

// tellLaunched prints what became of a launch.
func tellLaunched(a *app, reply api.Workers, asJSON bool) error {
	refused := map[string]int{}
	for _, w := range reply.Workers {
		if w.ID == "" {
			refused[w.Message]++
			continue
		}
		if !asJSON {
			fmt.Fprintln(a.Out, w.ID)
		}
	}
	if asJSON {
		if err := a.printJSON(reply); err != nil {
			return err
		}
	}
	for _, message := range slices.Sorted(maps.Keys(refused)) {
		fmt.Fprintf(a.Err, "muster: %d of %d workers refused: %s\n", refused[message], len(reply.Workers), message)
	}
	if len(refused) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}
