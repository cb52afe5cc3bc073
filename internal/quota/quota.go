// Package quota is what users and sessions of a server may have at a time: the limits, and the file that says them. The file is
// read once, when the server starts, and for people: an unknown key or a wrong value is an error with its line. What follows
// from a limit is the manager's. Packages manager and app import it; it looks at engine only.
package quota

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"muster/engine"
)

// Limits is the most that engines may have together at a time. Zero is no limit.
type Limits struct {
	Workers int     // that run; a session's own engine is none
	CPU     float64 // cores
	Memory  float64 // gigabytes
	GPUs    int
}

// Quotas are a server's.
type Quotas struct {
	User    Limits            // of every user
	Session Limits            // of every session
	Users   map[string]Limits // of users by name, in place of User
}

// Of returns the limits of a user; "" is the server's own.
func (q Quotas) Of(user string) Limits {
	if l, ok := q.Users[user]; ok && user != "" {
		return l
	}
	return q.User
}

// document is the file's form. Pointers: 0 is not the same as nothing.
type document struct {
	User    *table            `toml:"user"`
	Session *table            `toml:"session"`
	Users   map[string]*table `toml:"users"`
}

type table struct {
	Workers *int64   `toml:"workers"`
	CPU     *float64 `toml:"cpu"`
	Memory  *float64 `toml:"memory"`
	GPUs    *int64   `toml:"gpus"`
}

// maxFile is far more than a file of quotas needs.
const maxFile = 1 << 20

// Read reads a file of quotas. Errors are for people.
func Read(path string) (Quotas, error) {
	f, err := os.Open(path)
	if err != nil {
		return Quotas{}, engine.Errorf(engine.Invalid, "the quotas cannot be read: %w", err).WithHint("correct --quota, or leave it out: then there are none")
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("it has more than %d kB", maxFile>>10)
	}
	var q Quotas
	if err == nil {
		q, err = parse(content)
	}
	if err != nil {
		return Quotas{}, engine.Errorf(engine.Invalid, "the quotas %s cannot be used: %v", path, err).
			WithHint("correct the file and start again; docs/users.md lists what may stand there")
	}
	return q, nil
}

func parse(content []byte) (Quotas, error) {
	var d document
	decoder := toml.NewDecoder(bytes.NewReader(content)).DisallowUnknownFields()
	err := decoder.Decode(&d)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		line, _ := unknown.Errors[0].Position()
		return Quotas{}, fmt.Errorf("line %d: there is no key %s: a table is user, session or users.NAME, and in it are workers, cpu, memory and gpus",
			line, strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return Quotas{}, fmt.Errorf("line %d: %s", line, explain(content, wrong))
	case err != nil:
		return Quotas{}, err
	}
	q := Quotas{Users: map[string]Limits{}}
	if q.User, err = d.User.limits("user"); err != nil {
		return Quotas{}, err
	}
	if q.Session, err = d.Session.limits("session"); err != nil {
		return Quotas{}, err
	}
	for name, t := range d.Users {
		if q.Users[name], err = t.limits("users." + name); err != nil {
			return Quotas{}, err
		}
	}
	return q, nil
}

const (
	wholeWanted  = "a whole number from 1 to 1000000; without the line there is no limit"
	numberWanted = "a number above 0, at most 1000000; without the line there is no limit"
	tableWanted  = "a table, which is written [user], [session] or [users.NAME]"
)

// explain says which value is of a wrong kind, and what is wanted; what is no TOML the decoder's own words say.
func explain(content []byte, wrong *toml.DecodeError) string {
	var value any
	var all map[string]any
	if toml.Unmarshal(content, &all) == nil {
		value = all
	}
	key := wrong.Key()
	for _, k := range key {
		within, _ := value.(map[string]any)
		value = within[k]
	}
	wanted := tableWanted
	if len(key) == 3 || len(key) == 2 && key[0] != "users" { // users.workers is a user of that name
		switch key[len(key)-1] {
		case "workers", "gpus":
			wanted = wholeWanted
		case "cpu", "memory":
			wanted = numberWanted
		}
	}
	shown := fmt.Sprint(value)
	switch v := value.(type) {
	case nil:
		return strings.TrimPrefix(wrong.Error(), "toml: ")
	case string:
		shown = fmt.Sprintf("%.40q", v)
	case map[string]any:
		shown = "a table"
	case []any:
		shown = "a list"
	}
	return fmt.Sprintf("%s is %s: it must be %s", strings.Join(key, "."), shown, wanted)
}

func (t *table) limits(name string) (l Limits, err error) {
	if t == nil {
		return l, nil
	}
	for _, w := range []struct {
		key  string
		from *int64
		to   *int
	}{{"workers", t.Workers, &l.Workers}, {"gpus", t.GPUs, &l.GPUs}} {
		if w.from == nil {
			continue
		}
		if *w.from < 1 || *w.from > 1e6 {
			return l, fmt.Errorf("%s.%s is %d: it must be %s", name, w.key, *w.from, wholeWanted)
		}
		*w.to = int(*w.from)
	}
	for _, w := range []struct {
		key  string
		from *float64
		to   *float64
	}{{"cpu", t.CPU, &l.CPU}, {"memory", t.Memory, &l.Memory}} {
		if w.from == nil {
			continue
		}
		if !(*w.from > 0 && *w.from <= 1e6) { // nor NaN
			return l, fmt.Errorf("%s.%s is %v: it must be %s", name, w.key, *w.from, numberWanted)
		}
		*w.to = *w.from
	}
	return l, nil
}
