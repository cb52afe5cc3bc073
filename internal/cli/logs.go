package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/client"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/console/view"
)

type logsOptions struct {
	follow, json bool
	stream       string
	tail         int
}

func newLogs(a *app) *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use:   "logs [flags] [ID]",
		Short: "Show what a session or a worker printed",
		Long: `Show what was printed. Of a session: its console, with the lines of its workers labelled. Of a worker: the bytes as it
printed them, also when it has ended; each attempt of a worker with retries has a log of its own. What was printed to stderr
goes to stderr. In an engine, the session may be left out.`,
		Example: `  muster logs -f c4nrrt7q0wmarcvx
  muster logs c4nrr > session.txt
  muster logs --stream stderr --tail 20 w8kd`,
		ValidArgsFunction: a.completeIDs(oneID),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "logs shows one session or worker, and was given %d", len(args))
			}
			return nil
		},
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error { return o.run(ctx, a, cmd, args) })
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on until the session or worker has ended")
	cmd.Flags().BoolVar(&o.json, "json", false, "print records as lines of JSON")
	cmd.Flags().StringVar(&o.stream, "stream", "", "only this `stream`: stdout or stderr (with --json also event)")
	cmd.Flags().IntVar(&o.tail, "tail", 0, "begin with the last `lines` of a worker, so many; 0: all")
	offer(cmd, "stream", []string{"stdout", "stderr", "event"})
	a.serverFlag(cmd)
	return cmd
}

func (o *logsOptions) run(ctx context.Context, a *app, cmd *cobra.Command, args []string) error {
	if o.stream != "" {
		if known := o.stream == "stdout" || o.stream == "stderr" || o.stream == "event" && o.json; !known {
			return usage(cmd, "--stream is %q: it must be stdout or stderr (with --json also event)", o.stream)
		}
	}
	if o.tail < 0 {
		return usage(cmd, "--tail is %d: it must not be negative", o.tail)
	}
	c, p, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var t target
	if len(args) == 0 {
		t.session, err = theSession(ctx, c, p, "", "muster ps -a, and then: muster logs ID")
	} else {
		t, err = locate(ctx, c, args[0])
	}
	if err != nil {
		return err
	}
	if t.worker == nil && o.tail > 0 {
		return engine.Errorf(engine.Invalid, "--tail is for the log of one worker, and %s is a session", t.session)
	}
	if o.json {
		return o.lines(ctx, a, c, t)
	}
	if t.worker == nil {
		return o.labelled(ctx, a, c, t.session)
	}
	return o.raw(ctx, a, c, t.worker.ID)
}

// labelled shows a session's console.
func (o *logsOptions) labelled(ctx context.Context, a *app, c *client.Client, session string) error {
	s, err := c.Session(ctx, session)
	if err != nil {
		return err
	}
	stream, err := c.Console(ctx, s.ID, "", o.follow)
	if err != nil {
		return err
	}
	defer stream.Close()
	labeler := view.NewLabeler(a.Out, a.Err, view.Options{Color: a.color(a.OutTerminal), Session: s.Engine.ID, Whole: !o.follow})
	defer labeler.Close()
	whole := true
	err = each(stream, func(r console.Record) error {
		if _, damaged := console.Damage(r); damaged {
			whole = false
		}
		if o.stream != "" && r.Stream.String() != o.stream && r.Stream != console.Event { // events tell names
			return nil
		}
		return labeler.Write(r)
	})
	if err != nil {
		return err
	}
	if err := labeler.Close(); err != nil || whole {
		return err
	}
	return engine.Errorf(engine.Internal, "the console of session %s is not whole: it was told above what is missing", s.ID)
}

// raw shows the bytes of one engine.
func (o *logsOptions) raw(ctx context.Context, a *app, c *client.Client, id string) error {
	stream, err := c.Log(ctx, id, client.LogOptions{Follow: o.follow, Stream: o.stream, Tail: o.tail})
	if err != nil {
		return err
	}
	defer stream.Close()
	return each(stream, func(r console.Record) error {
		var err error
		if message, damaged := console.Damage(r); damaged {
			return engine.Errorf(engine.Internal, "%s", message)
		}
		switch r.Stream {
		case console.Stdout:
			_, err = a.Out.Write(r.Payload)
		case console.Stderr:
			_, err = a.Err.Write(r.Payload)
		}
		return err
	})
}

// lines copies records as the API sends them.
func (o *logsOptions) lines(ctx context.Context, a *app, c *client.Client, t target) error {
	var body io.ReadCloser
	var err error
	switch {
	case t.worker != nil:
		body, err = c.LogLines(ctx, t.worker.ID, client.LogOptions{Follow: o.follow, Stream: o.stream, Tail: o.tail})
	case o.stream != "":
		return engine.Errorf(engine.Invalid, "--json with --stream is for the log of one engine, and %s is a session", t.session)
	default:
		body, err = c.ConsoleLines(ctx, t.session, "", o.follow)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	return copyLines(a.Out, body)
}

// copyLines copies records, and returns an error if some of them tell of damage.
func copyLines(to io.Writer, from io.Reader) error {
	var told error
	for in := bufio.NewReaderSize(from, 64<<10); ; {
		line, err := in.ReadBytes('\n')
		if _, failed := to.Write(line); failed != nil {
			return failed
		}
		var r api.ConsoleRecord
		if bytes.Contains(line, []byte(`"stream":"event"`)) && json.Unmarshal(line, &r) == nil {
			if message, damaged := console.Damage(console.Record{Stream: console.Event, Payload: []byte(r.Text)}); damaged {
				told = engine.Errorf(engine.Internal, "%s", message)
			}
		}
		if err == io.EOF {
			return told
		}
		if err != nil {
			return err
		}
	}
}

// each calls f with every record of a stream.
func each(stream *client.ConsoleStream, f func(console.Record) error) error {
	for {
		r, _, err := stream.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(r); err != nil {
			return err
		}
	}
}
