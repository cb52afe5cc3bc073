package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/api"
)

// completionTimeout is how long a shell waits for ids while somebody presses the tabulator key.
const completionTimeout = 2 * time.Second

const (
	oneID   = false
	manyIDs = true
)

// What flags accept that know their values.
var (
	languages = []string{"python3", "r", "scala", "python2"}
	rungs     = []string{"auto", "root", "rootless", "plain"}
)

// offer completes a flag with its values instead of file names.
func offer(cmd *cobra.Command, flag string, values []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // a flag that is not there, or twice: a mistake of ours
	}
}

// strictCompletion makes the library's own command "completion" refuse what it does not know: it would print its help and
// succeed, and the help would be evaluated by a shell.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd("completion")
	cmd, _, err := root.Find([]string{"completion"})
	if err != nil {
		panic(err)
	}
	var shells []string
	for _, c := range cmd.Commands() {
		c.Args = noArgs
		shells = append(shells, c.Name())
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.ValidArgs = shells
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		known := "it knows " + strings.Join(shells, ", ")
		if len(args) == 0 {
			return usage(cmd, "completion needs the name of a shell; %s", known)
		}
		return usage(cmd, "completion does not know the shell %q; %s", args[0], known)
	}
}

// completeIDs offers the ids of the sessions and workers that a command takes: those that live, unless it is about what has ended too.
// Without a server there are none.
func (a *app) completeIDs(many bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !many {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		c, p, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		ended, sessions := cmd.Name() == "logs" || cmd.Name() == "restart", cmd.Name() != "await" && cmd.Name() != "restart"
		list, _ := (&psOptions{all: ended}).list(ctx, c, p)
		var ids []string
		for _, e := range list {
			if sessions {
				ids = append(ids, a.offered(e.Session.Kind, own(e.Session)))
			}
			for _, w := range e.Workers {
				ids = append(ids, a.offered("worker", w))
			}
		}
		return without(ids, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// without leaves out what is on the command line already.
func without(offers, args []string) []string {
	return slices.DeleteFunc(offers, func(offer string) bool {
		id, _, _ := strings.Cut(offer, "\t")
		return slices.Contains(args, id)
	})
}

// completeTokens offers the ids of tokens.
func (a *app) completeTokens(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	c, _, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	list, _ := c.Tokens(ctx)
	var ids []string
	for _, t := range list {
		ids = append(ids, cobra.CompletionWithDesc(t.ID, clean(orDash(t.Name)+", "+orElse(t.User, "owner"))))
	}
	return without(ids, args), cobra.ShellCompDirectiveNoFileComp
}

// offered is an id with what tells it from the others: kind and name, status, age.
func (a *app) offered(kind string, w api.Worker) string {
	return cobra.CompletionWithDesc(w.ID, clean(strings.TrimSpace(kind+" "+w.Name)+", "+w.Status+", "+a.age(w)))
}
