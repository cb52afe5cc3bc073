package local

import (
	"context"
	"maps"
	"slices"

	"muster/engine"
	"muster/internal/keeper/wire"
	"muster/internal/linux/openssh"
	"muster/internal/linux/sandbox"
)

// sshOff in an engine's environment leaves its SSH port to whoever wants it.
const sshOff = "MUSTER_SSH=off"

// addSSH gives an engine what it needs to be reached by ssh from the other engines of its session, and to reach them. That
// needs a network of its own, where port 2222 is nobody else's.
func (s *session) addSSH(ctx context.Context, w *wire.EngineSpec) error {
	g, err := s.sshGroup(ctx, w.Env)
	if err != nil || g == nil {
		return err
	}
	w.Files = withFiles(maps.Clone(w.Files), g.Files(w.Dir, w.Env)) // a copy: they are the caller's
	w.Covers = g.Covers(w.UID)
	w.SSH = &wire.SSH{Port: openssh.Port, Programs: openssh.Programs(), Args: g.ServerArgs()}
	return nil
}

// sshGroup is what the session's engines are for SSH's programs; nil where there is no SSH.
func (s *session) sshGroup(ctx context.Context, env []string) (*openssh.Group, error) {
	if !s.hasSSH(env) {
		return nil, nil
	}
	key, err := s.sshKey(ctx)
	if err != nil || key == nil {
		return nil, err
	}
	return &openssh.Group{Key: key, Network: s.hub.Prefix(), Folder: sandbox.PrivateDir, NoTTY: s.driver.rung == Rootless}, nil
}

// hasSSH reports whether an engine with that environment has an SSH server.
func (s *session) hasSSH(env []string) bool { return s.hub != nil && !slices.Contains(env, sshOff) }

// withFiles adds files to others, which may be nil.
func withFiles(files, more map[string][]byte) map[string][]byte {
	if files == nil {
		return more
	}
	maps.Copy(files, more)
	return files
}

// sshKey is the session's key. The keeper holds it, because it lives as long as the session; the first start of an engine
// proposes one. A keeper of before there was SSH has none, and its engines no SSH.
func (s *session) sshKey(ctx context.Context) (openssh.Key, error) {
	s.keyOf.Lock()
	defer s.keyOf.Unlock()
	if s.key != nil {
		return s.key, nil
	}
	proposed, err := openssh.NewKey()
	if err != nil {
		return nil, err
	}
	r, err := s.request(ctx, wire.Request{Op: wire.OpKey, Key: proposed})
	if err != nil {
		if ctx.Err() == nil && engine.KindOf(err) == engine.Internal {
			err = nil
		}
		return nil, err
	}
	key := openssh.Key(r.event.Key)
	if err := key.Check(); err != nil {
		return nil, err
	}
	s.key = key
	return key, nil
}
