package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/pidfd"
)

// newLockName is what a lock is called until it is taken.
const newLockName = wire.LockName + ".new"

// newLock takes the lock of a folder for a new session. It gets its name when it is taken: a sweep would otherwise find a
// lock that nobody holds yet, take it and remove the folder. The keeper inherits the lock and holds it as long as it lives,
// so that a folder whose lock can be taken belongs to nobody.
func newLock(dir string) (*os.File, error) {
	f, err := takeLock(filepath.Join(dir, newLockName))
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Link(f.Name(), filepath.Join(dir, wire.LockName)), os.Remove(f.Name()))
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, fs.ErrExist) { // somebody lives there, or did
		return takeLock(filepath.Join(dir, wire.LockName))
	}
	return nil, err
}

// takeLock takes the lock in a file, which is made if it is not there. Whoever held it before may have removed it meanwhile.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	held, err := f.Stat()
	if err == nil {
		there, statErr := os.Stat(path)
		if err = statErr; err == nil && !os.SameFile(held, there) {
			err = unix.EWOULDBLOCK
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// makingTime is how long a folder may be without a lock, or a cgroup without a process: it is just being made.
const makingTime = time.Minute

// Sweep removes what sessions left whose keeper was killed together with its server: processes that did not hear of it, cgroups,
// private folders, sockets; of sessions whose folder is gone as well, or that another state folder held, the cgroups, once they are
// old enough. The console logs of sessions that were not ephemeral stay. The sentences, for people, are about processes that it ended.
func (d *Driver) Sweep() (told []string, err error) {
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if id := engine.ID(e.Name()); id.Valid() {
			ended, err := d.sweepSession(id)
			if errs = append(errs, err); ended > 0 {
				told = append(told, fmt.Sprintf("%d processes of session %s, whose keeper was killed, were still there: they were ended", ended, id))
			}
		}
	}
	return told, errors.Join(append(errs, d.sweepLostGroups())...)
}

func (d *Driver) sweepSession(id engine.ID) (ended int, err error) {
	dir := d.sessionDir(id)
	if swept(dir) || !abandoned(dir) {
		return 0, nil
	}
	lock, err := takeLock(filepath.Join(dir, wire.LockName))
	if err != nil {
		return 0, nil // somebody lives there
	}
	defer lock.Close()
	ended, groupErr := d.sweepGroups(id)
	errs := []error{groupErr, sweepPlainTmp(dir)}
	var config wire.KeeperConfig
	b, err := os.ReadFile(filepath.Join(dir, wire.ConfigName))
	if err == nil && json.Unmarshal(b, &config) == nil && config.Ephemeral {
		return ended, errors.Join(append(errs, os.RemoveAll(config.ConsoleDir), os.RemoveAll(dir))...)
	}
	return ended, errors.Join(append(errs, d.removeOwn(id))...)
}

// ownNames is what driver and keeper make in a session's folder. The lock goes last: what has none is swept.
var ownNames = []string{"engines", wire.SocketName, wire.ConfigName, keeperLogName, newLockName, wire.LockName}

// swept reports whether only a console is in a session's folder. There may be thousands.
func swept(dir string) bool {
	names, err := os.ReadDir(dir)
	return err == nil && len(names) > 0 && !slices.ContainsFunc(names, func(e os.DirEntry) bool { return slices.Contains(ownNames, e.Name()) })
}

// removeOwn removes what driver and keeper have made in a session's folder, and the folder if nothing else is in it.
func (d *Driver) removeOwn(id engine.ID) error {
	dir := d.sessionDir(id)
	var errs []error
	for _, name := range ownNames {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	os.Remove(dir) // not empty if the console is in it
	return errors.Join(errs...)
}

// abandoned reports whether the folder is old enough to have a lock.
func abandoned(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, wire.LockName)); err == nil {
		return true
	}
	info, err := os.Stat(dir)
	return err == nil && time.Since(info.ModTime()) > makingTime
}

// sweepGroups removes the cgroups of a session's engines. Their processes are gone or just going, but for those that somebody had
// stopped: they heard nothing of their keeper's end, and are killed.
func (d *Driver) sweepGroups(id engine.ID) (ended int, err error) {
	engines, _ := os.ReadDir(filepath.Join(d.sessionDir(id), "engines")) // an error: there were none
	var errs []error
	for _, e := range engines {
		if g := d.elsewhere(id, engine.ID(e.Name())); g != nil {
			ended += endGroup(g, initEndsIn)
			errs = append(errs, g.Remove())
		}
	}
	err = d.removeGroups(func(session engine.ID, g *cgroup.Group) bool {
		if session != id {
			return false
		}
		ended += endGroup(g, initEndsIn)
		return true
	})
	return ended, errors.Join(append(errs, err)...)
}

// elsewhere is an engine's control group as its keeper noted it: the server that made it may have run in other groups than this one, as
// in another login. nil if none was noted, or if that is no group of such an engine's.
func (d *Driver) elsewhere(session, id engine.ID) *cgroup.Group {
	b, err := os.ReadFile(filepath.Join(d.sessionDir(session), "engines", string(id), wire.GroupName))
	if err != nil {
		return nil
	}
	var paths cgroup.Paths
	if json.Unmarshal(b, &paths) != nil {
		return nil
	}
	return cgroup.Noted(paths, groupName(session, id))
}

// endGroup kills the processes of an engine whose keeper is gone, waits for their ends and counts them. Each is found in the group
// before and after a descriptor means it alone: its number may be another's at any moment.
func endGroup(g *cgroup.Group, limit time.Duration) (ended int) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		pids, err := g.Processes()
		if err != nil || len(pids) == 0 {
			return ended
		}
		fds := map[int]int{}
		for _, pid := range pids {
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				fds[pid] = fd
			}
		}
		still, _ := g.Processes()
		for pid, fd := range fds {
			if slices.Contains(still, pid) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil && pidfd.Ended(fd, max(0, time.Until(end))) {
				ended++
			}
			unix.Close(fd)
		}
	}
	return ended
}

// sweepLostGroups removes the cgroups of which no folder tells any more: those without processes that are not just being made
// and whose session, as far as this state folder knows, does not live. Other servers' engines have processes, and a keeper that holds their group.
func (d *Driver) sweepLostGroups() error {
	return d.removeGroups(func(session engine.ID, g *cgroup.Group) bool {
		changed, there := g.Changed()
		pids, err := g.Processes()
		if !there || err != nil || len(pids) > 0 || time.Since(changed) < makingTime || g.Held() {
			return false
		}
		return !held(d.sessionDir(session))
	})
}

// held reports whether somebody holds the lock of a session's folder.
func held(dir string) bool {
	f, err := os.Open(filepath.Join(dir, wire.LockName))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// removeGroups removes the cgroups of engines that lost returns true for.
func (d *Driver) removeGroups(lost func(session engine.ID, g *cgroup.Group) bool) error {
	if d.tree == nil {
		return nil
	}
	names, err := d.tree.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		session, id, _ := strings.Cut(name, "-")
		if !engine.ID(session).Valid() || !engine.ID(id).Valid() {
			continue
		}
		if g, err := d.tree.Open(name); err == nil && lost(engine.ID(session), g) {
			errs = append(errs, g.Remove())
		}
	}
	return errors.Join(errs...)
}
