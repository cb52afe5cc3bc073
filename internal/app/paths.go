package app

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/cli"
	"muster/internal/linux/sandbox"
)

// paths are the folders of an installation.
type paths struct {
	state    string // records, consoles, tokens, audit: engines must not see it
	sessions string // in state, a folder for each session
	cache    string // keeper, clients, R library: engines need it, and it can be deleted while no server runs
	runtime  string // socket and token: engines must not see it
	// others is where all that lies if nobody says otherwise: that of the user's other servers, which engines must not see.
	others string
}

// findPaths decides on the folders and makes them. MUSTER_STATE_DIR and MUSTER_CACHE_DIR move them.
func findPaths(stateDir string) (paths, error) {
	if _, err := os.Stat(sandbox.PrivateDir); err == nil && named() { // isolated: what is made here would be lost, or the host's
		return paths{}, inEngine(errors.New("it has a session's network and none of the folders"))
	}
	for _, variable := range []string{"MUSTER_STATE_DIR", "MUSTER_CACHE_DIR", "MUSTER_RUNTIME_DIR"} {
		if dir := os.Getenv(variable); dir != "" {
			if err := cli.CheckAbsolute(variable, dir); err != nil {
				return paths{}, err
			}
		}
	}
	if stateDir == "" {
		stateDir = folder("MUSTER_STATE_DIR", "/var/lib/muster", "XDG_STATE_HOME", ".local/state")
	}
	cache := folder("MUSTER_CACHE_DIR", "/var/cache/muster", "XDG_CACHE_HOME", ".cache")
	var p paths
	var err error
	if p.state, err = filepath.Abs(stateDir); err != nil {
		return p, err
	}
	if p.cache, err = filepath.Abs(cache); err != nil {
		return p, err
	}
	p.others = defaultFolder("/var/lib/muster", "XDG_STATE_HOME", ".local/state")
	p.sessions, p.runtime = filepath.Join(p.state, "sessions"), cli.RuntimeDir(os.Getenv)
	for dir, mode := range map[string]os.FileMode{p.sessions: 0o700, p.cache: 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return p, noFolder(engine.Errorf(engine.Unavailable, "the folder %s cannot be made: %v", dir, err))
		}
	}
	if err := unix.Access(p.sessions, unix.W_OK); err != nil {
		return p, noFolder(engine.Errorf(engine.Unavailable, "the folder %s cannot be written: %v", p.sessions, err))
	}
	return p, nil
}

// noFolder says what to do where a server cannot have its folders, which engines do not see.
func noFolder(err *engine.Error) error {
	if named() {
		return inEngine(err)
	}
	return err.WithHint("set MUSTER_STATE_DIR and MUSTER_CACHE_DIR to folders that you may write to")
}

// named reports whether the environment is an engine's. Beside an attached session's process, and on the plain rung, a server has
// the folders of the host, and works.
func named() bool { return os.Getenv("CDSW_ENGINE_ID") != "" && os.Getenv("MUSTER_URL") != "" }

func inEngine(why error) error {
	return engine.Errorf(engine.Unavailable, "a server cannot run inside an engine, and this is one: %w", why).
		WithHint("launch workers of this session: muster launch FILE, or cdsw.launch_workers() in the code")
}

// folder is the one that the variable names, else root's, else the user's.
func folder(variable, root, xdg, home string) string {
	if dir := os.Getenv(variable); dir != "" {
		return dir
	}
	return defaultFolder(root, xdg, home)
}

func defaultFolder(root, xdg, home string) string {
	if os.Geteuid() == 0 {
		return root
	}
	if dir := os.Getenv(xdg); filepath.IsAbs(dir) { // its specification: else ignore it
		return filepath.Join(dir, "muster")
	}
	return filepath.Join(os.Getenv("HOME"), home, "muster")
}
