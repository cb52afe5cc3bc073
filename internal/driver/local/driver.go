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
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

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
}

// Driver implements driver.Driver.
type Driver struct {
	config  Config
	rung    Rung
	network netip.Prefix
	tree    *cgroup.Tree // nil on the plain rung
	caps    driver.Capabilities
}

// New finds out what this machine allows. Asked for a rung that it does not, it says why not.
func New(c Config) (*Driver, error) {
	d := &Driver{config: c, rung: c.Rung}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the folder for sessions cannot be made: %v", err)
	}
	if d.rung == Auto || d.rung == "" || d.rung == Root {
		err := d.tryRoot()
		switch {
		case err == nil:
			return d, nil
		case d.rung == Root, engine.KindOf(err) == engine.Invalid, engine.KindOf(err) == engine.Conflict:
			return nil, err
		}
		d.caps.Warnings = append(d.caps.Warnings, fmt.Sprintf("engines are plain processes here, without isolation, own addresses or limits: %v", err))
	}
	d.rung = Plain
	d.caps.Name = "plain"
	d.caps.Survives = true
	return d, nil
}

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
		Name: "local", OwnAddress: true, Isolation: true, GPU: true, Survives: true, ConnectWait: true,
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

// Close implements driver.Driver. Sessions go on.
func (d *Driver) Close() error { return nil }

func (d *Driver) sessionDir(id engine.ID) string { return filepath.Join(d.config.Dir, string(id)) }

// Open implements driver.Driver.
func (d *Driver) Open(ctx context.Context, spec driver.SessionSpec) (_ driver.Session, err error) {
	if spec.Owner != nil {
		defer spec.Owner.Close()
	}
	dir := d.sessionDir(spec.ID)
	if err := os.MkdirAll(filepath.Join(dir, "engines"), 0o700); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the session's folder cannot be made: %v", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the session's folder cannot be locked: %v", err)
	}
	defer lock.Close()
	s := newSession(d, spec)
	defer func() {
		if err != nil {
			s.release()
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	config := wire.KeeperConfig{
		Version: wire.Version, Session: string(spec.ID), ConsoleDir: spec.ConsoleDir, Dir: dir,
		Ephemeral: spec.Ephemeral, Plain: d.rung == Plain, HasLease: spec.Owner != nil,
	}
	if d.rung == Root {
		if s.hub, err = hub.New(d.network); err != nil {
			return nil, fmt.Errorf("make the session's network: %w", err)
		}
		if err := s.serveHub(); err != nil {
			return nil, err
		}
		config.HasHub, config.Network = true, d.network.String()
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, wire.ConfigName), b, 0o600); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the session's folder cannot be written: %v", err)
	}
	if s.conn, err = d.startKeeper(dir, s.hub, spec.Owner, lock); err != nil {
		return nil, fmt.Errorf("start the session's keeper: %w", err)
	}
	go s.receive()
	return s, nil
}

// startKeeper starts a keeper in a session of its own: a terminal's Ctrl-C is not for it.
func (d *Driver) startKeeper(dir string, h *hub.Hub, owner, lock *os.File) (*wire.Conn, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(dir, "keeper.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	conn, peer, err := wire.Pair()
	if err != nil {
		return nil, err
	}
	defer peer.Close()
	hubFile, lease := null, null
	if h != nil {
		hubFile = h.NS()
	}
	if owner != nil {
		lease = owner
	}
	cmd := exec.Command(d.config.Keeper, dir)
	cmd.Args[0] = "muster-keeper"
	cmd.Env = []string{"GOGC=50"} // a keeper's heap is tiny; memory matters more than its collector's time
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, log, log
	cmd.ExtraFiles = []*os.File{peer, hubFile, lease, lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	go cmd.Wait() // reaps it; ends when the keeper does, which may be after us
	return conn, nil
}

// Recover implements driver.Driver.
func (d *Driver) Recover(ctx context.Context, spec driver.SessionSpec, h driver.Handle) (driver.Session, error) {
	dir := d.sessionDir(h.Session)
	conn, config, err := dial(dir)
	if err != nil {
		return nil, engine.Errorf(engine.NotFound, "session %s has no keeper any more: %v", h.Session, err)
	}
	s := newSession(d, spec)
	s.conn = conn
	go s.receive()
	if config.HasHub {
		if err := s.adoptHub(ctx, config); err != nil {
			s.release()
			return nil, err
		}
	}
	return s, nil
}

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
		conn, _, err := dial(d.sessionDir(id))
		if err != nil {
			continue
		}
		conn.Close()
		handles = append(handles, driver.Handle{Version: wire.Version, Session: id})
	}
	return handles, nil
}

// dial connects to the keeper of a session's folder.
func dial(dir string) (*wire.Conn, wire.KeeperConfig, error) {
	var config wire.KeeperConfig
	b, err := os.ReadFile(filepath.Join(dir, wire.ConfigName))
	if err != nil {
		return nil, config, err
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, config, fmt.Errorf("read %s: %w", wire.ConfigName, err)
	}
	// Through a descriptor: the path of a unix socket must be short, the folder's may be long.
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, config, err
	}
	defer unix.Close(fd)
	name := fmt.Sprintf("/proc/self/fd/%d/%s", fd, wire.SocketName)
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		return nil, config, err
	}
	return wire.NewConn(c), config, nil
}
