package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"muster/engine"
)

// plainTmp is the folder for temporary files of an engine on the plain rung. Its path is short whatever the state folder's is:
// programs put sockets there, whose paths have room for 108 bytes (multiprocessing's managers and fork server do). Its
// name tells whose it is.
func plainTmp(id engine.ID) string { return "/tmp/muster-" + string(id) }

// removePlainTmp removes what a killed keeper left there, but nothing that somebody else may have put there.
func removePlainTmp(id engine.ID) error {
	path := plainTmp(id)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() {
		return nil
	}
	return os.RemoveAll(path)
}

// sweepPlainTmp does that for all engines of which a session's folder tells.
func sweepPlainTmp(session string) error {
	entries, err := os.ReadDir(filepath.Join(session, "engines"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if id := engine.ID(e.Name()); id.Valid() {
			err = errors.Join(err, removePlainTmp(id))
		}
	}
	return err
}
