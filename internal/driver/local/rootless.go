package local

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"muster/engine"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/userns"
)

// TryRootless is nil where engines can be isolated in the user namespace that this process is in: it makes a network, and runs
// something as an engine would be run, but for the control groups, which are not changed for a trial.
func TryRootless(ctx context.Context, c Config) error {
	d := &Driver{config: c, rung: Rootless, tree: &cgroup.Tree{}}
	if _, err := d.right(); err != nil {
		return err
	}
	if err := d.tryNetwork(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return engine.Errorf(engine.Unavailable, "the folder for sessions cannot be made: %v", err)
	}
	_, _, err := d.Probe(ctx, engine.Probe{Argv: []string{"/bin/sh", "-c", ":"}, Dir: "/"})
	if err == nil {
		return nil
	}
	told := engine.Errorf(engine.Unavailable, "engines cannot be isolated in a user namespace: %w", err)
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && partsCovered(string(mounts)) {
		// The kernel lets nobody in a user namespace see more of /proc than was to be seen around it.
		return told.WithHint("parts of /proc are covered, as in containers: start this one with --security-opt systempaths=unconfined")
	}
	return told
}

// partsCovered reports whether something of /proc is covered: what is mounted there on files or folders with content.
func partsCovered(mounts string) bool {
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], "/proc/") && fields[4] != "/proc/sys/fs/binfmt_misc" {
			return true
		}
	}
	return false
}

// Namespace opens the user namespace of the sessions in a folder that outlive their servers; nil if there is none that another
// server could enter. All of them are in one: each server enters that of those it finds.
func Namespace(sessions string) *os.File {
	entries, _ := os.ReadDir(sessions)
	for _, e := range entries {
		if !engine.ID(e.Name()).Valid() {
			continue
		}
		if ns := namespaceOf(filepath.Join(sessions, e.Name())); ns != nil {
			return ns
		}
	}
	return nil
}

func namespaceOf(session string) *os.File {
	conn, config, err := dial(session)
	if err != nil {
		return nil
	}
	defer conn.Close()
	if config.Ephemeral || config.Plain {
		return nil
	}
	pid, err := conn.Peer()
	if err != nil {
		return nil
	}
	ns := userns.Owned(pid)
	if ns != nil && !held(session) { // the keeper has ended meanwhile, and its number may be another's
		ns.Close()
		return nil
	}
	return ns
}

// fits is an error if a session runs on another rung than this process's, or in another user namespace: then its engines are
// out of reach.
func (d *Driver) fits(conn *wire.Conn, config wire.KeeperConfig) error {
	pid, err := conn.Peer()
	if err != nil {
		return err
	}
	rung := Rootless
	switch {
	case config.Plain:
		rung = Plain
	case userns.Shared(pid) && d.rung != Plain:
		return nil
	case os.Geteuid() == 0:
		rung = Root
	}
	if rung == d.rung && rung == Plain {
		return nil
	}
	if rung == d.rung {
		return engine.Errorf(engine.Conflict, "session %s is in another user namespace, of a server that ran at the same time", config.Session).
			WithHint("end it: kill %d", pid)
	}
	return engine.Errorf(engine.Conflict, "session %s runs on the %s rung, and this server on the %s rung", config.Session, rung, d.rung).
		WithHint("start the server with --rung %s, or end the session: kill %d", rung, pid)
}
