package manager

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"muster/engine"
)

// A group is a label that workers of one session share: no more than that.

func checkGroup(group string) error {
	switch {
	case len(group) > maxName:
		return invalid("the group's name has %d bytes: at most %d are allowed", len(group), maxName)
	case !utf8.ValidString(group) || strings.ContainsFunc(group, unicode.IsControl):
		return invalid("the group's name %q has characters that cannot be printed", group)
	}
	return nil
}

// checkWhom refuses a request that names workers and a group: whether both or either would count, nobody can know.
func checkWhom(ids []string, group string) error {
	if len(ids) > 0 && group != "" {
		return invalid("workers are named by ids or by a group, and both were given (group %q)", shorten(group))
	}
	return checkGroup(group)
}

// isIn reports whether the worker belongs to a group; "" are all.
func (w *worker) isIn(group string) bool { return group == "" || w.batch.group == group }

// hasGroupLocked refuses a group that no worker of the session ever had: whoever waits for a misspelt one would be told that all of it
// has succeeded.
func (s *session) hasGroupLocked(group string) error {
	var known []string
	for _, w := range s.workers {
		switch g := w.batch.group; {
		case w.isIn(group):
			return nil
		case g != "" && !slices.Contains(known, shorten(g)) && len(known) < 5:
			known = append(known, shorten(g))
		}
	}
	if group == "" {
		return nil
	}
	err := engine.Errorf(engine.NotFound, "no worker of session %s was launched in a group %q", s.id.Short(), shorten(group))
	if len(known) == 0 {
		return err.WithHint("none has a group; muster ps -a shows the workers")
	}
	return err.WithHint("its groups are %s", strings.Join(known, ", "))
}

// lastOfLocked returns the workers of a group in launch order, of each its last attempt.
func (s *session) lastOfLocked(group string) []*worker {
	ws := make([]*worker, 0, len(s.workers))
	for _, w := range s.workers {
		if w.previous == "" && w.isIn(group) {
			ws = append(ws, w.lastLocked())
		}
	}
	return ws
}
