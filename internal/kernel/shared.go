package kernel

import (
	"context"
	"path/filepath"

	"muster/engine"
)

// shared lists the real places of what engines of a new session will ask for, as links lead now, when none of it has run yet:
// what they may find in the host's private folders for as long as it lives. Later any link may have been turned.
func (t *Table) shared(r Request) []string {
	paths := []string{r.Project}
	r.Shared = realPlaces(paths)
	for _, interpreter := range r.Interpreter {
		paths = append(paths, installation(interpreter)...)
	}
	for _, l := range t.languages.with(r.Own) {
		if command, _, err := l.find(r); err == nil && command != "" {
			paths = append(paths, l.visible(command)...)
		}
	}
	return append(realPlaces(paths), t.own...)
}

// realPlaces follows the links in paths. What does not exist is left out.
func realPlaces(paths []string) []string {
	var out []string
	for _, p := range paths {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			out = append(out, real)
		}
	}
	return out
}

// probe is run for an engine of the request's session: it sees what that does.
func (r Request) probe(run engine.RunProbe) engine.RunProbe {
	return func(ctx context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
		p.Shared, p.As = r.Shared, r.For.Runs()
		return run(ctx, p)
	}
}
