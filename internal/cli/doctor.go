package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"muster/engine"
)

type doctorOptions struct{ json bool }

func newDoctor(a *app) *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Examine this machine",
		Long: `Examine what this machine allows and what is installed, and say what to do about what is missing. Exit code 1 if
sessions need it (a row marked NO).`,
		Example: "  muster doctor",
		Args:    noArgs,
		RunE:    a.action(func(ctx context.Context, _ []string) error { return o.run(ctx, a) }),
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print the report as JSON")
	return cmd
}

func (o *doctorOptions) run(ctx context.Context, a *app) error {
	if a.deps.Doctor == nil {
		return engine.Errorf(engine.Internal, "this program has no doctor")
	}
	report := a.deps.Doctor(ctx)
	failed := 0
	var rows []string
	for _, r := range report.Rows {
		mark := "ok"
		switch {
		case r.OK:
		case r.Optional:
			mark = "--"
		default:
			mark = "NO"
			failed++
		}
		rows = append(rows, mark+"\t"+orDash(r.What)+"\t"+orDash(r.Detail))
	}
	if o.json {
		if err := a.printJSON(report); err != nil {
			return err
		}
	} else {
		table(a.Out, "\tWHAT\tFOUND", rows)
		for _, r := range report.Rows {
			if !r.OK && r.Fix != "" {
				fmt.Fprintf(a.Out, "%s: try: %s\n", r.What, r.Fix)
			}
		}
	}
	if failed > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}
