// Package cli is the command line: what "muster run", "muster ps" and the others read, ask and print. There is one file for
// each subcommand, with its options, its constructor and its run method.
//
// Commands speak to a server through package client only. What needs the rest of the program (a server inside "run", the
// server of "up", "doctor") comes in through Deps, so that every command can be tested with a scripted server. Errors
// are returned, and printed in one place (errors.go).
//
// Only cmd/muster and package app, which fills Deps, import it.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Version of the program. Builds of a release set it: -ldflags "-X muster/internal/cli.Version=1.2.3".
var Version = "0.1.0-dev"

// Streams are a command's input and outputs.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Which of them are terminals: colour, progress lines.
	InTerminal, OutTerminal, ErrTerminal bool
}

// StdStreams are those of the process.
func StdStreams() Streams {
	return Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		OutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
}

// app is what the commands of one invocation share.
type app struct {
	Streams
	deps    Deps
	server  string // --server
	now     func() time.Time
	signals <-chan os.Signal
	// progressDelay is how long a wait lasts before it is worth a progress line.
	progressDelay time.Duration
	// slowAfter is how long a server may take to answer before that is told; 0: it is not.
	slowAfter time.Duration
}

// Main runs one command line (without the program's name) and returns the exit code. It takes over SIGINT, SIGTERM,
// SIGHUP and SIGQUIT while it runs, and SIGPIPE; ctx ends it too.
func Main(ctx context.Context, args []string, streams Streams, deps Deps) int {
	a := &app{Streams: streams, deps: deps.withDefaults(), now: time.Now, signals: deps.Signals, progressDelay: time.Second, slowAfter: 3 * time.Second}
	if a.signals == nil {
		c := make(chan os.Signal, 8)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
		defer signal.Stop(c)
		a.signals = c
	}
	// Without this a write to a pipe that nobody reads would end the process at once: what it has started must be ended
	// first. The write fails with EPIPE instead. (Ignoring the signal would do too, but engines would inherit that.)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	return a.main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(append([]string{}, args...)) // never nil, which would mean os.Args
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	strictCompletion(root) // it takes the output as it is now
	return a.report(root.ExecuteContext(ctx))
}

// getenv looks into the environment that Main was given.
func (a *app) getenv(name string) string {
	value, _ := a.lookupEnv(name)
	return value
}

func (a *app) lookupEnv(name string) (string, bool) {
	for _, kv := range slices.Backward(a.deps.Environ) { // the last one wins, as in exec
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// color reports whether a stream that is a terminal or not gets colour.
func (a *app) color(terminal bool) bool {
	return terminal && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// action makes a command's run function of f. The first signal ends the context of f, with the signal as its cause.
func (a *app) action(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithCancelCause(cmd.Context())
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			select {
			case sig := <-a.signals:
				cancel(&signalError{signal: sig})
			case <-ctx.Done():
			}
		}()
		err := f(ctx, args)
		cancel(nil)
		<-watched
		if s, ok := context.Cause(ctx).(*signalError); ok && err != nil {
			return s
		}
		return err
	}
}
