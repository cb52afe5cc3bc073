package manager

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/store"
)

// endOrphans ends places that live and of which there is no record: nobody could ever ask for them. Those that end with the
// process that opened them are left alone.
func (m *Manager) endOrphans(ctx context.Context, known []store.Known) (told []string, err error) {
	handles, err := m.cfg.Driver.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range handles {
		if h.Ephemeral || slices.ContainsFunc(known, func(k store.Known) bool { return k.ID == h.Session }) {
			continue
		}
		dir := filepath.Join(m.cfg.StateDir, sessionsName, string(h.Session))
		switch err := m.endOrphan(ctx, h, dir); {
		case engine.KindOf(err) == engine.NotFound:
			continue // it has just ended
		case err != nil:
			told = append(told, fmt.Sprintf("session %s runs without a record, and cannot be ended: %v", h.Session, err))
			continue
		}
		told = append(told, fmt.Sprintf("session %s ran without a record: it was ended; what it printed is in %s", h.Session, dir))
	}
	return told, nil
}

func (m *Manager) endOrphan(ctx context.Context, h driver.Handle, dir string) error {
	ctx, cancel := noAnswerIn(ctx)
	defer cancel()
	place, err := m.cfg.Driver.Recover(ctx, driver.SessionSpec{
		ID: h.Session, ConsoleDir: filepath.Join(dir, consoleName), Observe: func(driver.Observation) {},
	}, h)
	if err == nil {
		err = place.End(ctx, endGrace, "a server that has no record of it")
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
