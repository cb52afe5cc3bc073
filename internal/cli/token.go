package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

func newToken(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens for asking a server over the network",
		Long: `A token lets whoever has it ask the server over TCP as the user whose token it is. On the server's machine no token is
needed. It is shown once, when it is made; the server keeps only a hash of it. One that is revoked, or expires, ends what is
being answered of it, too.`,
		Example: "  muster token create --name laptop --expires 30d\n  muster token ls\n  muster token revoke 3k2vq7x1ma",
		Args:    func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
	return cmd
}

type tokenCreateOptions struct {
	user, name, expires string
	json                bool
}

func newTokenCreate(a *app) *cobra.Command {
	o := &tokenCreateOptions{}
	cmd := &cobra.Command{
		Use:   "create [flags]",
		Short: "Make a token and show it",
		Long: `Make a token and print it, alone on stdout. Ask on the server's machine: a token makes no other tokens. On another machine set
MUSTER_HOST to the server's address and MUSTER_TOKEN to the token.`,
		Example: "  muster token create --name laptop --expires 30d\n  muster token create --user alice",
		Args:    noArgs,
	}
	cmd.RunE = a.action(func(ctx context.Context, _ []string) error { return o.run(ctx, a, cmd) })
	f := cmd.Flags()
	f.StringVar(&o.user, "user", "", "whose it is to be, a user's `name` (the server's owner only)")
	f.StringVar(&o.name, "name", "", "a `name`, to know it again")
	f.StringVar(&o.expires, "expires", "", "how long it is good: a `duration` such as 30d or 12h (default: until it is revoked)")
	f.BoolVar(&o.json, "json", false, "print as JSON")
	a.serverFlag(cmd)
	return cmd
}

func (o *tokenCreateOptions) run(ctx context.Context, a *app, cmd *cobra.Command) error {
	good := time.Duration(0)
	if o.expires != "" {
		var err error
		if good, err = parseDays(o.expires); err != nil || good <= 0 {
			return usage(cmd, "--expires is %q: it must be a duration such as 30d, 12h or 90m", o.expires)
		}
	}
	c, _, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	t, err := c.CreateToken(ctx, api.CreateToken{User: o.user, Name: o.name, Seconds: good.Seconds()})
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(t)
	}
	until := "good until it is revoked"
	if t.ExpiresAt != nil {
		until = "good until " + t.ExpiresAt.Local().Format(tokenTime)
	}
	fmt.Fprintf(a.Err, "muster: token %s, %s; it is shown only now:\n", t.ID, until)
	fmt.Fprintln(a.Out, t.Token)
	return nil
}

// tokenTime tells to the second when a token ends, and by which clock: whoever reads it may be elsewhere.
const tokenTime = "2006-01-02 15:04:05 MST"

// parseDays reads a duration, in days too: 30d.
func parseDays(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > 100*365 {
		return 0, fmt.Errorf("%q is no number of days", days)
	}
	return time.Duration(n * 24 * float64(time.Hour)), nil
}

type tokenListOptions struct{ json bool }

func newTokenList(a *app) *cobra.Command {
	o := &tokenListOptions{}
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Short:   "List tokens",
		Long:    "List your tokens, the oldest first; the server's owner sees those of all users. The last use is told to the hour.",
		Example: "  muster token ls\n  muster token ls --json",
		Args:    noArgs,
		RunE:    a.action(func(ctx context.Context, _ []string) error { return o.run(ctx, a) }),
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print as JSON")
	a.serverFlag(cmd)
	return cmd
}

func (o *tokenListOptions) run(ctx context.Context, a *app) error {
	c, _, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Tokens(ctx)
	if err != nil {
		return err
	}
	if o.json {
		return a.printJSON(list)
	}
	when := func(t *time.Time, none string) string {
		if t == nil {
			return none
		}
		return t.Local().Format(tokenTime)
	}
	var rows []string
	for _, t := range list {
		rows = append(rows, strings.Join([]string{
			t.ID, orDash(t.Name), orElse(t.User, "owner"), when(&t.CreatedAt, ""), when(t.ExpiresAt, "never"), when(t.UsedAt, "-"),
		}, "\t"))
	}
	return table(a.Out, "ID\tNAME\tUSER\tCREATED\tEXPIRES\tLAST USED", rows)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func newTokenRevoke(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "revoke [flags] ID...",
		Short:   "Make tokens worthless",
		Long:    "Revoke tokens by their ids, which muster token ls shows. Whatever is being answered of them ends at once.",
		Example: "  muster token revoke 3k2vq7x1ma",

		ValidArgsFunction: a.completeTokens,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "revoke needs the id of a token")
			}
			return nil
		},
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error {
		for _, id := range args {
			if strings.HasPrefix(id, "muster_") {
				return engine.Errorf(engine.Invalid, "this is a token itself, and its id is wanted: others can see command lines").
					WithHint("muster token ls shows the ids")
			}
		}
		c, _, err := a.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		failed := false
		for _, id := range args {
			err := c.RevokeToken(ctx, id)
			if err == nil {
				continue
			}
			if client.Unreachable(err) || ctx.Err() != nil {
				return err
			}
			a.report(err) // an id that is wrong does not spare the others
			failed = true
		}
		if failed {
			return &exitError{code: exitFailed}
		}
		return nil
	})
	a.serverFlag(cmd)
	return cmd
}
