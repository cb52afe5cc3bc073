package store

import (
	"database/sql"
	"encoding/json"
	"net/netip"
	"time"

	"muster/engine"
)

// Session is what is known of a session when it is created, but for what is secret.
type Session struct {
	ID          engine.ID       `json:"id"`
	Kind        string          `json:"kind"`
	Name        string          `json:"name"`
	Project     string          `json:"project"`
	Created     time.Time       `json:"created"`
	Boot        string          `json:"boot"` // which run of the machine it began in
	Kernel      engine.Kernel   `json:"kernel"`
	CPU         float64         `json:"cpu"`
	Memory      float64         `json:"memory"`
	GPUs        int             `json:"gpus,omitempty"`
	Address     netip.Addr      `json:"address"`       // its own engine's
	API         string          `json:"api"`           // where its engines find the API
	Web         string          `json:"web,omitempty"` // host and port that its engines' web addresses end with; "": none
	Interpreter string          `json:"interpreter,omitempty"`
	Shared      []string        `json:"shared,omitempty"`
	ProjectName string          `json:"project_name,omitempty"` // as its settings say
	Owner       string          `json:"owner,omitempty"`        // the same
	Lease       string          `json:"lease,omitempty"`
	Terminal    bool            `json:"terminal,omitempty"`
	TTY         bool            `json:"tty,omitempty"`
	Stdin       bool            `json:"stdin,omitempty"`
	PID         int             `json:"pid,omitempty"` // of an attached session's process
	User        json.RawMessage `json:"user,omitempty"`
}

// Batch is what one launch accepted.
type Batch struct {
	Number  int           `json:"number"` // 1, 2, … in a session
	Created time.Time     `json:"created"`
	Name    string        `json:"name"`
	Kernel  engine.Kernel `json:"kernel"`
	CPU     float64       `json:"cpu"`
	Memory  float64       `json:"memory"`
	GPUs    int           `json:"gpus,omitempty"`
	Key     string        `json:"key,omitempty"` // the caller's, by which the same launch is known again
	Of      int           `json:"of,omitempty"`  // the launch whose workers these do again, and which says the rest; 0: none
	Workers []Worker      `json:"workers"`

	Group     string        `json:"group,omitempty"`
	Retries   int           `json:"retries,omitempty"`
	TimeLimit time.Duration `json:"time_limit,omitempty"`
}

// Worker is one of a batch.
type Worker struct {
	ID      engine.ID  `json:"id"`
	Address netip.Addr `json:"address"`

	Attempt   int       `json:"attempt"`
	First     engine.ID `json:"first,omitempty"`
	Previous  engine.ID `json:"previous,omitempty"`
	RestartOf engine.ID `json:"restart_of,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"` // it waits until then before it asks for room
}

// End is how an engine ended, and the times of its life; zero times are not known, or never came.
type End struct {
	Engine   engine.ID     `json:"-"`
	Status   engine.Status `json:"status"`
	Exit     engine.Exit   `json:"exit"`
	Starting time.Time     `json:"starting,omitzero"`
	Running  time.Time     `json:"running,omitzero"`
	Stopping time.Time     `json:"stopping,omitzero"`
	Finished time.Time     `json:"finished"`
	Retrying bool          `json:"retrying,omitempty"` // it is to be tried again
}

// AddSession records a session and its sealed part.
func (s *Store) AddSession(r Session, secret []byte) error {
	record, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.write("session "+r.ID.Short(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO sessions (id, created, record, secret) VALUES (?, ?, ?, ?)", r.ID, r.Created.UnixNano(), record, secret)
		return err
	})
}

// AddBatch records a launch and its sealed part.
func (s *Store) AddBatch(session engine.ID, b Batch, secret []byte) error {
	record, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return s.write("a launch of session "+session.Short(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO batches (session, number, record, secret) VALUES (?, ?, ?, ?)", session, b.Number, record, secret)
		return err
	})
}

// DropBatch takes the record of a launch back that came to nothing.
func (s *Store) DropBatch(session engine.ID, number int) error {
	return s.write("a launch of session "+session.Short(), func(tx *sql.Tx) error {
		_, err := tx.Exec("DELETE FROM batches WHERE session = ? AND number = ?", session, number)
		return err
	})
}

// AddEnds records ends of engines; the last record of each counts.
func (s *Store) AddEnds(session engine.ID, ends []End) error {
	return s.write("an end in session "+session.Short(), func(tx *sql.Tx) error { return addEnds(tx, session, ends) })
}

func addEnds(tx *sql.Tx, session engine.ID, ends []End) error {
	insert, err := tx.Prepare("INSERT INTO ends (session, engine, record) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record")
	if err != nil {
		return err
	}
	defer insert.Close()
	for _, e := range ends {
		record, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := insert.Exec(session, e.Engine, record); err != nil {
			return err
		}
	}
	return nil
}

// EndSession records that a session has ended, with the ends of its engines that were not recorded yet. What was sealed is
// removed.
func (s *Store) EndSession(session engine.ID, ends []End) error {
	return s.write("the end of session "+session.Short(), func(tx *sql.Tx) error {
		if err := addEnds(tx, session, ends); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE batches SET secret = NULL WHERE session = ?", session); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE sessions SET ended = 1, secret = NULL WHERE id = ?", session)
		return err
	})
}

// Forget removes all records of a session.
func (s *Store) Forget(session engine.ID) error {
	return s.write("that session "+session.Short()+" is forgotten", func(tx *sql.Tx) error {
		_, err := tx.Exec("DELETE FROM sessions WHERE id = ?", session)
		return err
	})
}

// Known is a session as it is recorded, without its launches.
type Known struct {
	Session
	Ended  bool
	Secret []byte // sealed; nil when it has ended
}

// Sessions returns all recorded sessions, oldest first.
func (s *Store) Sessions() ([]Known, error) {
	var all []Known
	err := s.each("sessions", "SELECT record, ended, secret FROM sessions ORDER BY created, id", nil, func(scan func(...any) error) error {
		var k Known
		var record []byte
		if err := scan(&record, &k.Ended, &k.Secret); err != nil {
			return err
		}
		all = append(all, k)
		return decode(record, &all[len(all)-1].Session)
	})
	return all, err
}

// LaunchedBatch is a recorded launch.
type LaunchedBatch struct {
	Batch
	Secret []byte // sealed; nil when the session has ended
}

// Batches returns what a session launched, in order.
func (s *Store) Batches(session engine.ID) ([]LaunchedBatch, error) {
	var all []LaunchedBatch
	err := s.each("launches of "+string(session), "SELECT record, secret FROM batches WHERE session = ? ORDER BY number", []any{session},
		func(scan func(...any) error) error {
			var b LaunchedBatch
			var record []byte
			if err := scan(&record, &b.Secret); err != nil {
				return err
			}
			all = append(all, b)
			return decode(record, &all[len(all)-1].Batch)
		})
	return all, err
}

// Ends returns the recorded ends of a session's engines.
func (s *Store) Ends(session engine.ID) (map[engine.ID]End, error) {
	all := map[engine.ID]End{}
	err := s.each("ends in "+string(session), "SELECT engine, record FROM ends WHERE session = ?", []any{session},
		func(scan func(...any) error) error {
			var id engine.ID
			var record []byte
			if err := scan(&id, &record); err != nil {
				return err
			}
			e := End{Engine: id}
			err := decode(record, &e)
			all[id] = e
			return err
		})
	return all, err
}

// decode reads a record; one that is no JSON was changed behind our back.
func decode(record []byte, into any) error {
	if err := json.Unmarshal(record, into); err != nil {
		return &damagedError{"a record is not what was written: " + err.Error()}
	}
	return nil
}
