package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/hub"
)

const keeperLogName = "keeper.log"

// Open implements driver.Driver. It returns when the keeper answers and can be found by others.
func (d *Driver) Open(ctx context.Context, spec driver.SessionSpec) (_ driver.Session, err error) {
	if spec.Owner != nil {
		defer spec.Owner.Close()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := sameNetwork(spec.Attached); err != nil {
		return nil, err
	}
	dir := d.sessionDir(spec.ID)
	if err := os.MkdirAll(filepath.Join(dir, "engines"), 0o700); err != nil {
		return nil, fmt.Errorf("make the session's folder: %w", err)
	}
	lock, err := newLock(dir)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, engine.Errorf(engine.Conflict, "session %s has a keeper already", spec.ID)
	}
	if err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the session's folder cannot be locked: %v", err)
	}
	defer lock.Close()
	s := newSession(d, spec)
	if err := s.open(ctx, dir, lock); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// open makes the network, starts the keeper and waits until it answers. After an error nothing of it is left but files.
func (s *session) open(ctx context.Context, dir string, lock *os.File) (err error) {
	d := s.driver
	config := wire.KeeperConfig{
		Version: wire.Version, Session: string(s.spec.ID), ConsoleDir: s.spec.ConsoleDir, Dir: dir,
		Ephemeral: s.spec.Ephemeral, Plain: d.rung == Plain, HasLease: s.spec.Owner != nil,
	}
	if d.apart(s.spec) {
		if s.hub, err = s.newHub(); err != nil {
			return fmt.Errorf("make the session's network: %w", err)
		}
		config.HasHub, config.Network = true, s.hub.Prefix().String()
		if err := s.serveHub(); err != nil {
			s.release()
			return err
		}
	}
	config.Attached = s.attached()
	failpoint.Here("driver: before keeper")
	if err := s.startKeeper(config, lock); err != nil {
		s.release()
		return fmt.Errorf("start the session's keeper: %w", err)
	}
	failpoint.Here("driver: after keeper")
	if err := d.enter(s); err != nil {
		s.keeper.Process.Kill()
		s.keeper.Wait()
		s.release()
		return err
	}
	go s.receive(nil)
	select {
	case <-s.live:
		return nil
	case <-s.gone:
		return engine.Errorf(engine.Unavailable, "the session's keeper ended at its start: %s", lastWords(dir))
	case <-ctx.Done():
		s.mu.Lock()
		s.abandoned = true
		s.mu.Unlock()
		s.keeper.Process.Kill()
		<-s.gone
		return ctx.Err()
	}
}

// lastWords is what a keeper said before it ended.
func lastWords(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, keeperLogName))
	text := strings.TrimSpace(string(b))
	if err != nil || text == "" {
		return "it said nothing"
	}
	if len(text) > 1000 {
		text = text[:1000] + "…"
	}
	return strings.TrimPrefix(text, "muster-keeper: ")
}

// startKeeper starts a keeper in a session of its own: a terminal's Ctrl-C is not for it.
func (s *session) startKeeper(config wire.KeeperConfig, lock *os.File) error {
	b, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config.Dir, wire.ConfigName), b, 0o600); err != nil {
		return err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(config.Dir, keeperLogName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	conn, peer, err := wire.Pair()
	if err != nil {
		return err
	}
	defer peer.Close()
	hubFile, lease := null, null
	if s.hub != nil {
		hubFile = s.hub.NS()
	}
	if s.spec.Owner != nil {
		lease = s.spec.Owner
	}
	cmd := exec.Command(s.driver.config.Keeper, config.Dir)
	cmd.Args[0] = "muster-keeper"
	cmd.Env = append(failpoint.Env(), "GOGC=50") // a keeper's heap is tiny; memory matters more than its collector's time
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, log, log
	cmd.ExtraFiles = []*os.File{peer, hubFile, lease, lock}
	cmd.SysProcAttr = s.driver.process()
	if err := cmd.Start(); err != nil {
		conn.Close()
		return err
	}
	s.conn, s.keeper = conn, cmd
	return nil
}

// serveHub opens what engines find at their gateway: the way out, names, and the way to an attached process.
func (s *session) serveHub() error {
	if err := s.hub.ServeOutbound(hub.OutboundOptions{}); err != nil {
		return fmt.Errorf("open the way out of the session's network: %w", err)
	}
	if err := s.hub.ServeDNS(hub.DNSOptions{}); err != nil {
		return fmt.Errorf("answer names in the session's network: %w", err)
	}
	if s.spec.Attached == nil {
		return nil
	}
	return s.serveAttached()
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
