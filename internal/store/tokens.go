package store

import (
	"database/sql"
	"fmt"
	"io/fs"
	"time"

	"muster/engine"
)

// createTokens is the migration that makes the tokens' table. Tokens are not salvaged from a damaged file: an old page of it
// could bring one back that was revoked.
const createTokens = `CREATE TABLE tokens (
		id      TEXT PRIMARY KEY,
		hash    BLOB NOT NULL UNIQUE,       -- SHA-256 of the token
		name    TEXT NOT NULL,
		user    TEXT NOT NULL,              -- '': the server's owner
		uid     INTEGER NOT NULL,
		created INTEGER NOT NULL,           -- seconds since 1970, as are the others
		expires INTEGER NOT NULL,           -- 0: never
		used    INTEGER NOT NULL DEFAULT 0  -- 0: never, or not within what is recorded
	) WITHOUT ROWID;`

// Token is what is kept of a token that people made: everything but the token.
type Token struct {
	ID      string
	Hash    [32]byte
	Name    string
	User    engine.User // zero: the server's owner
	Created time.Time
	Expires time.Time // zero: never
	Used    time.Time // the last time that was recorded; zero: none
}

// AddToken records a token. A power cut does not take it back: whoever was given it may have gone.
func (s *Store) AddToken(t Token) error {
	return s.durable("the token "+t.ID, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO tokens (id, hash, name, user, uid, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
			t.ID, t.Hash[:], t.Name, t.User.Name, t.User.UID, seconds(t.Created), seconds(t.Expires))
		return err
	})
}

// RemoveToken forgets a token. It is on the disk when this returns.
func (s *Store) RemoveToken(id string) error {
	return s.durable("that the token "+id+" is revoked", func(tx *sql.Tx) error {
		r, err := tx.Exec("DELETE FROM tokens WHERE id = ?", id)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("there is no token %s: %w", id, fs.ErrNotExist)
		}
		return nil
	})
}

// UseToken records when a token was used.
func (s *Store) UseToken(id string, at time.Time) error {
	return s.write("the use of token "+id, func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE tokens SET used = ? WHERE id = ?", seconds(at), id)
		return err
	})
}

// Tokens returns all tokens, oldest first.
func (s *Store) Tokens() ([]Token, error) {
	var all []Token
	err := s.each("the tokens", "SELECT id, hash, name, user, uid, created, expires, used FROM tokens ORDER BY created, id", nil,
		func(scan func(...any) error) error {
			var t Token
			var hash []byte
			var created, expires, used int64
			if err := scan(&t.ID, &hash, &t.Name, &t.User.Name, &t.User.UID, &created, &expires, &used); err != nil {
				return err
			}
			if copy(t.Hash[:], hash) != len(t.Hash) {
				return &damagedError{"the hash of a token is not what was written"}
			}
			t.Created, t.Expires, t.Used = at(created), at(expires), at(used)
			all = append(all, t)
			return nil
		})
	return all, err
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func at(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
