package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"muster/client"
	"muster/engine"
)

// Exit codes, but for the script's own.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnavailable = 3
	exitSignal      = 128 // plus the signal
	exitOutOfMemory = exitSignal + int(syscall.SIGKILL)
)

// exitError ends the program with a code that is no error's of ours, such as the script's.
type exitError struct {
	code    int
	message string // why, "" if everything was said
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %s", e.code, e.message) }

// usageError is a command line that cannot be right.
type usageError struct {
	err     error
	hint    string
	command string // "muster run"
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usage makes an error of wrong usage of cmd.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), command: cmd.CommandPath()}
}

// badFlag makes wrong usage of the error of a server that does not start because of what it was told.
func badFlag(cmd *cobra.Command, err error) error {
	if err == nil || engine.KindOf(err) != engine.Invalid {
		return err
	}
	return &usageError{err: err, hint: engine.HintOf(err), command: cmd.CommandPath()}
}

// signalError ends the program because of a signal.
type signalError struct {
	signal  os.Signal
	message string // what it did, "" if that needs no words
}

func (e *signalError) Error() string { return "ended by signal: " + e.signal.String() }

// report prints an error for people and returns the exit code. It is the only place that does.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		if e.message != "" {
			fmt.Fprintf(a.Err, "muster: %s\n", e.message)
		}
		return e.code
	}
	if s, ok := errors.AsType[*signalError](err); ok {
		if s.message != "" {
			fmt.Fprintf(a.Err, "muster: %s\n", s.message)
		}
		return exitSignal + number(s.signal)
	}
	message, hint, code := err.Error(), engine.HintOf(err), exitFailed
	if u, ok := errors.AsType[*usageError](err); ok {
		code, hint = exitUsage, u.hint
		if hint == "" {
			hint = u.command + " --help"
		}
	}
	switch {
	case client.Unreachable(err):
		code = exitUnavailable
	case errors.Is(err, syscall.EPIPE): // whoever read our output, such as head, has enough
		return exitSignal + int(syscall.SIGPIPE)
	case errors.Is(err, context.Canceled):
		message = "ended before it was done"
	}
	fmt.Fprintf(a.Err, "muster: %s\n", message)
	if hint != "" {
		fmt.Fprintf(a.Err, "  try: %s\n", hint)
	}
	return code
}

func number(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return int(n)
	}
	return 0
}
