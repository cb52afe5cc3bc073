package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootLong = `Muster runs Python and R scripts as sessions that launch workers: isolated engines, each with an address of its
own, whose output comes together in one console.

Commands find a server at $MUSTER_HOST (with $MUSTER_TOKEN), else at the socket server.sock in $MUSTER_RUNTIME_DIR,
$XDG_RUNTIME_DIR/muster, /run/muster (root) or /tmp/muster-UID. "muster run" needs none: without one it carries a server
inside. In an engine, commands speak of the session that the engine belongs to.

Exit codes: 0 done, 1 an error, 2 wrong usage, 3 no server answers, 128+N ended by signal N. "muster run" ends with the
script's own: its exit code, 128+N when signal N ended it, 137 when it ran out of memory.`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "muster",
		Short:         "Sessions and workers on this machine",
		Long:          rootLong,
		Example:       "  muster run hello.py\n  muster up &\n  muster ps",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.SuggestionsMinimumDistance = 2
	root.AddCommand(newRun(a), newSession(a), newUp(a), newPs(a), newLogs(a), newStop(a), newRestart(a), newOpen(a), newLaunch(a), newAwait(a),
		newToken(a), newAudit(a), newDoctor(a), newClients(a), newVersion(a), newFollow(a))
	return root
}

// flagError says what a flag wants in place of what a parser of Go's says.
func flagError(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		name := "--" + bad.GetFlag().Name
		if w := wanted(name, bad.GetFlag().Value.Type()); w != "" {
			return usage(cmd, "%s is %q: it must be %s", name, bad.GetValue(), w)
		}
	}
	return usage(cmd, "%w", err)
}

// wanted says what the value of a flag must be, "" where only the flag's parser knows.
func wanted(flag, kind string) string {
	if strings.HasPrefix(flag, "--memory") {
		return "a number of GB, for instance 0.5"
	}
	return map[string]string{
		"float64": "a number", "int": "a whole number", "bool": "true or false", "duration": "a duration such as 30s",
	}[kind]
}

func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := &usageError{err: fmt.Errorf("there is no command %q", args[0]), command: root.CommandPath()}
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		for i := range near {
			near[i] = "muster " + near[i]
		}
		err.hint = strings.Join(near, ", ")
	}
	return err
}

// serverFlag adds --server to a command that asks one.
func (a *app) serverFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.server, "server", "auto", "`address` of the server: unix:///path, http://host:port, or auto")
}

// noArgs, someArgs: what a command takes besides flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "%s takes no arguments, and was given %q", cmd.Name(), args[0])
	}
	return nil
}
