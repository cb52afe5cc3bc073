package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
)

type versionOptions struct{ json bool }

// versions is what "version --json" prints.
type versions struct {
	Client  api.VersionInfo  `json:"client"`
	Server  *api.VersionInfo `json:"server"` // null: none answers
	Address string           `json:"address"`
}

func newVersion(a *app) *cobra.Command {
	o := &versionOptions{}
	cmd := &cobra.Command{
		Use:     "version [flags]",
		Short:   "Versions of this program and of the server",
		Long:    "Print the versions of this program and of the server, if one answers.",
		Example: "  muster version\n  muster version --json",
		Args:    noArgs,
		RunE:    a.action(func(ctx context.Context, _ []string) error { return o.run(ctx, a) }),
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print as JSON")
	a.serverFlag(cmd)
	return cmd
}

func (o *versionOptions) run(ctx context.Context, a *app) error {
	v := versions{Client: api.VersionInfo{API: api.Version, Muster: a.deps.Version}}
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	v.Address = p.address
	server, err := c.Version(ctx)
	switch {
	case err == nil:
		v.Server = &server
	case !client.Unreachable(err) || p.explicit:
		return err
	}
	if o.json {
		return a.printJSON(v)
	}
	fmt.Fprintf(a.Out, "muster %s (API %d)\n", v.Client.Muster, v.Client.API)
	if v.Server == nil {
		fmt.Fprintf(a.Out, "server: none (%v)\n", err)
		return nil
	}
	fmt.Fprintf(a.Out, "server %s (API %d, driver %s, since %s) at %s\n", server.Muster, server.API, server.Driver, server.Started, p.address)
	return nil
}
