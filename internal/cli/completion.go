package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout is how long a shell waits for ids while somebody presses the tabulator key.
const completionTimeout = 2 * time.Second

const (
	oneID   = false
	manyIDs = true
)

// completeIDs offers the ids of live sessions and workers. Without a server there are none.
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
		list, _ := (&psOptions{all: cmd.Name() == "logs"}).list(ctx, c, p)
		var ids []string
		for _, e := range list {
			if cmd.Name() != "await" {
				ids = append(ids, cobra.CompletionWithDesc(e.Session.ID, clean(e.Session.Kind+" "+e.Session.Name)))
			}
			for _, w := range e.Workers {
				ids = append(ids, cobra.CompletionWithDesc(w.ID, clean("worker "+w.Name)))
			}
		}
		given := func(offer string) bool {
			id, _, _ := strings.Cut(offer, "\t")
			return slices.Contains(args, id)
		}
		return slices.DeleteFunc(ids, given), cobra.ShellCompDirectiveNoFileComp
	}
}
