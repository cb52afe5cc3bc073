package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/internal/console"
	"muster/internal/console/view"
)

type sessionOptions struct {
	runOptions
	log switchedLog
}

func newSession(a *app) *cobra.Command {
	o := &sessionOptions{}
	cmd := &cobra.Command{
		Use:   "session [flags] [python3|r|scala]",
		Short: "Work in an interactive session in this terminal",
		Long: `Start a language's interactive prompt as a session: it can launch workers, and what they print appears above the prompt.
Python is IPython where the session's interpreter has it. History, completion and keys are the language's own.

Ctrl-C interrupts the code, Ctrl-D (or exit) ends the session and its workers. Ctrl-Z does nothing: there is no shell
inside to go back to. If nothing answers any more, Ctrl-\ three times ends the session, and once more stops waiting for that.
A running server is used; without one, session carries a server inside.`,
		Example: "  muster session\n  muster session r --cpu 2\n  muster session --project ~/work --env MODE=test",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "session takes one language, and was given %q", args)
			}
			if len(args) == 1 {
				if cmd.Flags().Changed("kernel") && o.kernel != args[0] {
					return usage(cmd, "the language is %q, and --kernel %q", args[0], o.kernel)
				}
				o.kernel = args[0]
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), a, cmd) },
	}
	o.flags(a, cmd)
	return cmd
}

func (o *sessionOptions) run(ctx context.Context, a *app, cmd *cobra.Command) error {
	in, isFile := a.In.(*os.File)
	out, also := a.Out.(*os.File)
	if !a.InTerminal || !a.OutTerminal || !isFile || !also {
		return &usageError{err: fmt.Errorf("session needs a terminal to type at and to print to"), hint: "muster run FILE", command: cmd.CommandPath()}
	}
	req, err := o.request(a, cmd)
	if err != nil {
		return err
	}
	t := &tty{in: in, out: out}
	size := t.size()
	req.TTY, req.Stdin, req.Terminal = &size, true, true
	// A terminal's size that a shell exported is that of another terminal, or of another time.
	delete(req.BaseEnv, "LINES")
	delete(req.BaseEnv, "COLUMNS")
	o.log.to = a.Err
	o.inside.Log = &o.log
	return o.carry(ctx, a, cmd, req, func(r *runner, req api.CreateSession) error { return o.attend(r, req, t) })
}

// attend is runner.run for a session with a terminal. The terminal is as before when it returns, and when it panics.
func (o *sessionOptions) attend(r *runner, req api.CreateSession, t *tty) error {
	if err := r.create(req); err != nil {
		return err
	}
	if err := t.makeRaw(); err != nil {
		r.end()
		return err
	}
	defer t.restore()
	d := newDisplay(t.out, *req.TTY, r.session)
	o.log.switchTo(d)
	defer o.log.switchTo(o.log.to)
	defer r.feed(r.session, &keys{in: t.in, leave: func() { r.ask(syscall.SIGQUIT) }})()
	defer r.resizes(t, d)()
	err := r.show(d)
	if failed := d.finish(); err == nil {
		err = failed
	}
	t.restore()
	if err != nil {
		r.end()
		return r.lost(req.OwnerPID != 0, err)
	}
	return r.result()
}

// ask acts as if a signal had come, unless nobody watches them any more.
func (r *runner) ask(sig os.Signal) {
	select {
	case r.asked <- sig:
	case <-r.stopped:
	}
}

// resizes passes changes of the terminal's size on, until the returned function is called. A program that was stopped and
// goes on makes its terminal raw again: the shell did not know it like that.
func (r *runner) resizes(t *tty, d *display) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH, syscall.SIGCONT)
	ctx, cancel := context.WithCancel(r.ctx)
	var wait sync.WaitGroup
	wait.Go(t.guarded(func() {
		for {
			select {
			case sig := <-c:
				if sig == syscall.SIGCONT {
					t.again()
				}
			case <-ctx.Done():
				return
			}
			size := t.size()
			d.resize(size)
			r.c.Resize(ctx, r.session, size) // one that fails does so because the session ends
		}
	}))
	return func() {
		signal.Stop(c)
		cancel()
		wait.Wait()
	}
}

// show shows the console until nothing can come any more.
func (r *runner) show(d *display) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	stream, err := r.c.Lease(ctx, r.session)
	if err != nil {
		return err
	}
	defer stream.Close()
	records := make(chan console.Record, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- forward(ctx, stream.Next, records)
		close(records)
	}()
	err = r.showAll(d, records)
	cancel()
	for range records { // its sender must come to its end
	}
	if streamErr := <-ended; err == nil && streamErr != io.EOF {
		err = streamErr
	}
	return err
}

// forward copies records, which are valid for a moment only, until there are no more.
func forward(ctx context.Context, next func() (console.Record, console.Position, error), to chan<- console.Record) error {
	for {
		record, _, err := next()
		if err != nil {
			return err
		}
		record.Payload = append([]byte(nil), record.Payload...)
		select {
		case to <- record:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// showAll shows records as they come. What workers print is put above the prompt when no more is there for the moment.
func (r *runner) showAll(d *display, records <-chan console.Record) error {
	labels := view.NewLabeler(d, d, view.Options{
		Color: r.a.color(r.a.OutTerminal), Session: r.engine, Above: true,
		Shown: func() { d.flush() }, // its error comes again with the next record, or at the end
	})
	for record := range records {
		var err error
		switch {
		case r.isExit(record):
		case record.Engine == r.engine && record.Stream == console.Stdout:
			err = d.own(record.Payload)
		default:
			err = labels.Write(record)
		}
		if err == nil && len(records) == 0 {
			err = d.flush()
		}
		if err != nil {
			labels.Close()
			return err
		}
	}
	return labels.Close()
}
