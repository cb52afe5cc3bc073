// Package local is the driver of this machine: sessions are keepers, engines are processes in namespaces and cgroups of
// their own (root rung, and rootless rung, on which all of it lies in a user namespace) or plain processes (plain rung), told
// apart only by what the machine allows. Package app makes it; nothing else imports it.
//
// The driver makes what needs the large libraries (network, cgroup) and hands it to the keeper by descriptor; the keeper
// starts the engine in it and owns it from then on. Nothing of a session depends on this process but its way out to the
// network and its API listener.
package local

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/rights"
)

// Config configures the driver.
type Config struct {
	Dir     string // holds a folder for each session
	Keeper  string // path of the muster-keeper binary
	Rung    Rung
	Refused error    `json:"-"` // why there is no user namespace for this process to be in; nil: it was not tried
	Network string   // CIDR of the engines' addresses; empty: chosen
	Hidden  []string // folders that no engine may see
	// ReadOnly are folders that engines may look at but not change: what we start ourselves lies there.
	ReadOnly []string
}

// Driver implements driver.Driver.
type Driver struct {
	config  Config
	rung    Rung
	network netip.Prefix
	tree    *cgroup.Tree // nil on the plain rung
	caps    driver.Capabilities
	takers  rights.Takers
	fail    func(step string, a *attempt) error // tests let steps of a start fail here

	mu       sync.Mutex
	closed   bool
	sessions map[*session]bool // whose keepers this process is connected to
}

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities { return d.caps }

// Close implements driver.Driver: it lets go of all keepers, which go on, and waits until nothing of it runs any more.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	all := slices.Collect(maps.Keys(d.sessions))
	d.mu.Unlock()
	for _, s := range all {
		s.detach()
	}
	return nil
}

// enter notes that this process is connected to a session's keeper.
func (d *Driver) enter(s *session) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return engine.Errorf(engine.Unavailable, "the server is closing")
	}
	d.sessions[s] = true
	return nil
}

func (d *Driver) leave(s *session) {
	d.mu.Lock()
	delete(d.sessions, s)
	d.mu.Unlock()
}

func (d *Driver) sessionDir(id engine.ID) string { return filepath.Join(d.config.Dir, string(id)) }

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Handle, error) {
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, err
	}
	var handles []driver.Handle
	for _, e := range entries {
		id := engine.ID(e.Name())
		if !id.Valid() {
			continue
		}
		conn, config, err := dial(d.sessionDir(id))
		if err != nil {
			continue
		}
		conn.Close()
		handles = append(handles, driver.Handle{Version: wire.Version, Session: id, Ephemeral: config.Ephemeral})
	}
	return handles, nil
}
