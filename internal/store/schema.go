package store

import (
	"database/sql"
	"fmt"

	"muster/engine"
)

// migrations bring a database from each version to the next; the number of those that were made is its user_version. They are
// never changed, only added to. Records are JSON (types of this package, whose fields are only added), so that a new field
// needs no migration; what is searched for, and what is large, is a column of its own.
var migrations = []string{
	`CREATE TABLE sessions (
		id      TEXT PRIMARY KEY,
		created INTEGER NOT NULL,           -- nanoseconds since 1970
		ended   INTEGER NOT NULL DEFAULT 0, -- 1: nothing of it lives, and all ends are recorded
		record  TEXT NOT NULL,
		secret  BLOB                        -- sealed; gone when the session has ended
	) WITHOUT ROWID;
	CREATE TABLE batches (
		session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
		number  INTEGER NOT NULL,           -- in the order of launching
		record  TEXT NOT NULL,
		secret  BLOB,
		PRIMARY KEY (session, number)
	) WITHOUT ROWID;
	CREATE TABLE ends (
		session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
		engine  TEXT NOT NULL,
		record  TEXT NOT NULL,
		PRIMARY KEY (session, engine)
	) WITHOUT ROWID;`,
	createTokens,
}

// migrate brings the database to this release's form. Of one that nothing was ever recorded in it asks lost first.
func (s *Store) migrate(lost func(path string) error) error {
	var version int
	if err := s.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return engine.Errorf(engine.Unavailable, "the records in %s are of a later release of muster (form %d, this one knows %d)",
			s.path, version, len(migrations)).WithHint("start that release, or give this one a state folder of its own (MUSTER_STATE_DIR)")
	}
	if s.begun = version == 0; s.begun {
		if err := lost(s.path); err != nil {
			return err
		}
	}
	for ; version < len(migrations); version++ {
		err := s.writeLocked(func(tx *sql.Tx) error {
			if _, err := tx.Exec(migrations[version]); err != nil {
				return err
			}
			_, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", version+1))
			return err
		})
		if err != nil {
			return err
		}
	}
	if s.begun { // on the disk before there is a session: after a power cut they would seem to be lost
		_, err := s.db.Exec("PRAGMA wal_checkpoint(PASSIVE)")
		return err
	}
	return nil
}
