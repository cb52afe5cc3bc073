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
	if s.hub == nil || slices.Contains(w.Env, sshOff) {
		return nil
	}
	key, err := s.sshKey(ctx)
	if err != nil || key == nil {
		return err
	}
	g := openssh.Group{Key: key, Network: s.hub.Prefix(), Folder: sandbox.PrivateDir, NoTTY: s.driver.rung == Rootless}
	files := maps.Clone(w.Files) // the caller's
	if files == nil {
		files = map[string][]byte{}
	}
	maps.Copy(files, g.Files(w.Dir, w.Env))
	w.Files = files
	w.Covers = g.Covers(w.UID)
	w.SSH = &wire.SSH{Port: openssh.Port, Programs: openssh.Programs(), Args: g.ServerArgs()}
	return nil
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
