package engine

import "context"

// Probe is a program that the server runs to learn or to make something, such as which interpreter a wrapper stands for.
// Engines can write where it is found, so it runs as they do: as the same user, isolated as far as the machine allows, and
// without a network.
type Probe struct {
	Argv     []string // an absolute path and its arguments
	Env      []string // KEY=VALUE, complete
	Dir      string   // working directory, absolute; it is visible
	Visible  []string // paths that stay visible even if they lie in /tmp
	Shared   []string // real places: of /tmp and the like nothing else is visible but them and what lies in them
	Writable []string // folders that it may write to even if engines may not
	As       *Account // the user whose engines ask; nil: the server's own
}

// RunProbe runs a probe until it and everything that it started has ended. An exit code other than 0 is an error; what was
// printed is returned with an error, too. The end of ctx ends it.
type RunProbe func(ctx context.Context, p Probe) (stdout, stderr []byte, err error)
