package local

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/linux/userns"
)

// TryRootless is nil where engines can be isolated in the user namespace that this process is in: it runs something as an engine
// would be run.
func TryRootless(ctx context.Context, c Config) error {
	c.Rung = Rootless
	d, err := New(c)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, _, err := d.Probe(ctx, engine.Probe{Argv: []string{"/bin/sh", "-c", ":"}, Dir: "/"}); err != nil {
		return engine.Errorf(engine.Unavailable, "engines cannot be isolated in a user namespace: %w", err)
	}
	return nil
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
	ns, err := userns.Of(pid)
	if err != nil {
		return nil
	}
	// The keeper may have ended meanwhile, and its number be another's.
	if owner, err := unix.IoctlGetUint32(int(ns.Fd()), unix.NS_GET_OWNER_UID); err != nil || int(owner) != os.Geteuid() || !held(session) {
		ns.Close()
		return nil
	}
	return ns
}
