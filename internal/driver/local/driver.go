// Package local is the driver of this machine: sessions are keepers, engines are processes in namespaces and cgroups of
// their own (root rung) or plain processes (plain rung), told apart only by what the machine allows. Package app makes it;
// nothing else imports it.
//
// The driver makes what needs the large libraries (network, cgroup) and hands it to the keeper by descriptor; the keeper
// starts the engine in it and owns it from then on. Nothing of a session depends on this process but its way out to the
// network and its API listener.
package local

import (
	"context"
	"fmt"
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
	"muster/internal/linux/hub"
)

// Rung is how much the machine lets us isolate.
type Rung string

const (
	Auto  Rung = "auto"  // the highest that works here
	Root  Rung = "root"  // namespaces, own addresses, limits
	Plain Rung = "plain" // processes, no limits
)

// Config configures the driver.
type Config struct {
	Dir     string // holds a folder for each session
	Keeper  string // path of the muster-keeper binary
	Rung    Rung
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
	fail    func(step string, a *attempt) error // tests let steps of a start fail here

	mu       sync.Mutex
	closed   bool
	sessions map[*session]bool // whose keepers this process is connected to
}

// New finds out what this machine allows. Asked for a rung that it does not, it says why not.
func New(c Config) (*Driver, error) {
	d := &Driver{config: c, rung: c.Rung, sessions: map[*session]bool{}}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the folder for sessions cannot be made: %v", err)
	}
	if !slices.Contains([]Rung{"", Auto, Root, Plain}, d.rung) {
		return nil, engine.Errorf(engine.Invalid, "there is no rung %q", d.rung).WithHint("--rung is auto, root or plain")
	}
	if d.rung != Plain {
		err := d.tryRoot()
		switch {
		case err == nil:
			return d, nil
		case d.rung == Root, engine.KindOf(err) == engine.Invalid, engine.KindOf(err) == engine.Conflict:
			return nil, err
		}
		d.plainly(fmt.Sprintf(": %v", err))
	} else {
		d.plainly(", as asked")
	}
	return d, nil
}

// plainly settles for the plain rung, with the one warning that says so.
func (d *Driver) plainly(why string) {
	d.rung = Plain
	d.caps = driver.Capabilities{Name: "plain", Survives: true, Attach: true, AttachReach: true, Terminal: true, Warnings: []string{
		"engines are plain processes here, without isolation, own addresses or limits" + why,
	}}
}

// Try is nil where the root rung works, else the reason why not: by it New decides, and others can tell beforehand.
func Try(network string) error { return (&Driver{config: Config{Network: network}}).tryRoot() }

// tryRoot checks everything that the root rung needs by making it once.
func (d *Driver) tryRoot() error {
	if os.Geteuid() != 0 {
		return engine.Errorf(engine.Unavailable, "this needs root").WithHint("run as root for isolated workers")
	}
	network, err := hub.PickRange(d.config.Network)
	if err != nil {
		return err
	}
	h, err := hub.New(network)
	if err != nil {
		return engine.Errorf(engine.Unavailable, "network namespaces do not work: %v", err)
	}
	h.Close()
	tree, err := cgroup.Detect("", "")
	if err == nil {
		err = tree.Prepare()
	}
	if err != nil {
		return engine.Errorf(engine.Unavailable, "cgroups do not work: %v", err)
	}
	memory, cpu := tree.Has(cgroup.Memory), tree.Has(cgroup.CPU)
	d.rung, d.network, d.tree = Root, network, tree
	d.caps = driver.Capabilities{
		Name: "local", OwnAddress: true, Isolation: true, GPU: true, Survives: true, ConnectWait: true, Loopback: true,
		Attach: true, AttachReach: true, Terminal: true,
		MemoryLimit: memory, CPUShare: cpu, CPUCap: cpu,
	}
	if !memory {
		d.caps.Warnings = append(d.caps.Warnings, "memory is not limited: the memory controller of cgroups is not usable here")
	}
	if !cpu {
		d.caps.Warnings = append(d.caps.Warnings, "CPU is not shared by weight: the cpu controller of cgroups is not usable here")
	}
	return nil
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
