package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
)

type openOptions struct {
	print, readOnly, public bool
}

func newOpen(a *app) *cobra.Command {
	o := &openOptions{}
	cmd := &cobra.Command{
		Use:   "open [flags] ID",
		Short: "Open the web address of a worker, or of a session's own engine",
		Long: `Print a link to the web app of an engine, and in a desktop's terminal open it in the browser. It leads to what listens on
127.0.0.1:$CDSW_APP_PORT in the engine, with --read-only on $CDSW_READONLY_PORT, with --public on $CDSW_PUBLIC_PORT. The
link logs the browser in and is as secret as a password; that of --public needs no login and can be given to anybody who
reaches this machine. In an engine: a link that is good for its own session.`,
		Example:           "  muster open w8kdq21mzb6cu0ya\n  muster open --print --public w8kd",
		ValidArgsFunction: a.completeIDs(oneID),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "open needs the id of one session or worker, and was given %d", len(args))
			}
			return nil
		},
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error { return o.run(ctx, a, cmd, args[0]) })
	cmd.Flags().BoolVar(&o.print, "print", false, "print the link and open nothing")
	cmd.Flags().BoolVar(&o.readOnly, "read-only", false, "the engine's read-only address")
	cmd.Flags().BoolVar(&o.public, "public", false, "the engine's public address")
	a.serverFlag(cmd)
	return cmd
}

func (o *openOptions) run(ctx context.Context, a *app, cmd *cobra.Command, id string) error {
	if o.readOnly && o.public {
		return usage(cmd, "--read-only and --public are two addresses: open one after the other")
	}
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := c.Engine(ctx, id)
	if engine.KindOf(err) == engine.NotFound && err != nil {
		return engine.Errorf(engine.NotFound, "there is no session or worker %q", id).WithHint("muster ps")
	}
	if err != nil {
		return err
	}
	if engine.Status(w.Status).Final() {
		return engine.Errorf(engine.Conflict, "%s has ended (%s)", w.ID, orDash(reason(w))).WithHint("muster logs %s", w.ID)
	}
	link, err := o.link(ctx, w)
	if err != nil {
		return err
	}
	shown := link.address
	if !o.public && p.token != "" { // without one the server knows its users' browsers, or asks for one
		shown = "http://" + link.domain + "/login?token=" + url.QueryEscape(p.token) + "&to=" + url.QueryEscape(link.address)
	}
	fmt.Fprintln(a.Out, shown)
	if viewer := a.viewer(p); viewer != "" && !o.print {
		return o.show(ctx, a, c, p, viewer, link)
	}
	return nil
}

// webLink is where a browser finds an engine, and its server.
type webLink struct{ domain, address string }

// link makes the address that is asked for of app_url: by path where the sub-domain is found by nobody. Browsers find those
// of localhost by themselves.
func (o *openOptions) link(ctx context.Context, w api.Worker) (webLink, error) {
	u, err := url.Parse(w.AppURL)
	if err != nil {
		return webLink{}, engine.Errorf(engine.Internal, "the server calls %q the web address of %s: %v", w.AppURL, w.ID, err)
	}
	domain, ok := strings.CutPrefix(u.Host, w.ID+".")
	name, _, _ := net.SplitHostPort(domain)
	if _, err := netip.ParseAddr(name); !ok || err == nil { // an address in the session's network
		return webLink{}, engine.Errorf(engine.Unavailable, "this server has no web addresses of engines").
			WithHint("start it without --web none")
	}
	label, first := "", "app"
	switch {
	case o.readOnly:
		label, first = "read-only-", "read-only"
	case o.public:
		label, first = "public-", "public"
	}
	l := webLink{domain: domain, address: "http://" + label + u.Host + "/"}
	if name == "localhost" {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, label+w.ID+"."+name); err != nil {
		l.address = "http://" + domain + "/" + first + "/" + w.ID + "/"
	}
	return l, nil
}

// viewer is what opens links for the person at this terminal; "" if there is none, or if the server may be on another machine,
// for whose localhost this one is not.
func (a *app) viewer(p place) string {
	if !a.OutTerminal || p.inEngine || !strings.HasPrefix(p.address, "unix://") || a.getenv("DISPLAY")+a.getenv("WAYLAND_DISPLAY")+a.getenv("BROWSER") == "" {
		return ""
	}
	path, err := exec.LookPath("xdg-open")
	if err != nil {
		return ""
	}
	return path
}

// show opens the link in the browser. Everybody on this machine sees command lines: in place of the token there is a code
// that is good once.
func (o *openOptions) show(ctx context.Context, a *app, c *client.Client, p place, viewer string, link webLink) error {
	where := link.address
	if !o.public && p.token != "" {
		var err error
		if where, err = c.WebLink(ctx, link.domain, link.address); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, viewer, where)
	cmd.Env = a.deps.Environ
	cmd.Stdout, cmd.Stderr = a.Err, a.Err
	if err := cmd.Run(); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		return engine.Errorf(engine.Unavailable, "the browser could not be opened: %v", err).WithHint("open the link that is printed above")
	}
	return ctx.Err()
}
