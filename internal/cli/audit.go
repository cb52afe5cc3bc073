package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/api"
)

type auditOptions struct {
	user, since string
	json        bool
}

func newAudit(a *app) *cobra.Command {
	o := &auditOptions{}
	cmd := &cobra.Command{
		Use:   "audit [flags]",
		Short: "Show who asked the server for what",
		Long: `Show what the server has recorded, oldest first: sessions created and ended, workers launched and stopped, logins, tokens made
and revoked; who, when, from where, and what came of it. It is for the server's owner, and tells no code, environment or
token.`,
		Example: "  muster audit --since 1d\n  muster audit --user alice --json",
		Args:    noArgs,
	}
	cmd.RunE = a.action(func(ctx context.Context, _ []string) error { return o.run(ctx, a, cmd) })
	cmd.Flags().StringVar(&o.user, "user", "", "only what this user did, by `name`; owner is the server's")
	cmd.Flags().StringVar(&o.since, "since", "", "only since a `time`: 2026-01-31, 2026-01-31T08:00:00Z, or ago: 2h, 7d")
	cmd.Flags().BoolVar(&o.json, "json", false, "print lines of JSON")
	a.serverFlag(cmd)
	return cmd
}

func (o *auditOptions) run(ctx context.Context, a *app, cmd *cobra.Command) error {
	since, err := o.from(a.now())
	if err != nil {
		return usage(cmd, "--since is %q: it must be a date, a time such as 2026-01-31T08:00:00Z, or how long ago, such as 2h or 7d", o.since)
	}
	c, _, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Audit(ctx, o.user, since, func(e api.AuditEntry) error {
		if o.json {
			return json.NewEncoder(a.Out).Encode(e)
		}
		_, err := fmt.Fprintln(a.Out, clean(line(e)))
		return err
	})
}

// line is an entry for people.
func line(e api.AuditEntry) string {
	who := e.User
	if e.By != "" {
		who += " by session " + e.By
	}
	if e.Token != "" {
		who += " with token " + e.Token
	}
	parts := []string{e.At.Local().Format(time.DateTime), who, "from " + e.From + ":", e.Action}
	if e.Session != "" {
		parts = append(parts, e.Session)
	}
	if e.About != "" {
		parts = append(parts, "("+e.About+")")
	}
	return strings.Join(append(parts, "→ "+e.Result), " ")
}

func (o *auditOptions) from(now time.Time) (time.Time, error) {
	if o.since == "" {
		return time.Time{}, nil
	}
	if ago, err := parseDays(o.since); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, o.since, time.Local); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, o.since)
}
