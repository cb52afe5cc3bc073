package manager

import (
	"context"
	"os"
	"path/filepath"

	"muster/engine"
	"muster/internal/driver"
)

// Left is what is in a state folder of sessions that a record should tell of: not those of a server inside "muster run".
type Left struct {
	Folders int // of sessions, whether they run or have ended
	Running int // places that live
}

// FindLeft looks what earlier servers left, without their records.
func FindLeft(ctx context.Context, stateDir string, d driver.Driver) (left Left, err error) {
	handles, err := d.List(ctx)
	if err != nil {
		return left, err
	}
	runs := map[engine.ID]bool{}
	for _, h := range handles {
		if runs[h.Session] = !h.Ephemeral; !h.Ephemeral {
			left.Running++
		}
	}
	sessions := filepath.Join(stateDir, sessionsName)
	entries, err := os.ReadDir(sessions)
	if err != nil && !os.IsNotExist(err) {
		return left, err
	}
	for _, e := range entries {
		id := engine.ID(e.Name())
		_, err := os.Stat(filepath.Join(sessions, e.Name(), markName)) // made a moment before the record
		if id.Valid() && (err == nil || runs[id]) {
			left.Folders++
		}
	}
	return left, nil
}
