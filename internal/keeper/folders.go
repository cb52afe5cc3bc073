package keeper

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"muster/internal/keeper/wire"
)

// makeFolders makes the engine's private folder and the one for its temporary files: tmp, or one in the private folder. Where
// tmp is to be, others may make what they like: so it must not be there yet, in whatever form. The private folder,
// which is named like it, tells a later sweep of it, and of the engine's control group.
func (e *engine) makeFolders(tmp string) error {
	inside := filepath.Join(e.dir, "tmp")
	if err := os.MkdirAll(inside, 0o700); err != nil {
		return err
	}
	if e.group != nil {
		b, err := json.Marshal(e.group.Paths())
		if err == nil {
			err = os.WriteFile(filepath.Join(e.dir, wire.GroupName), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case !e.plain:
		return os.Chmod(inside, 0o777|os.ModeSticky)
	case tmp == "":
		return nil
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	e.tmp = tmp
	return nil
}

// removeFolders removes them; the private one, which tells of the other, last.
func (e *engine) removeFolders() error {
	var err error
	if e.tmp != "" {
		err = os.RemoveAll(e.tmp)
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}
