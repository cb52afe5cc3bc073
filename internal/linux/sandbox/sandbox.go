// Package sandbox turns a process that stands in fresh mount, PID, IPC and UTS namespaces into the first process of an
// isolated engine: its own /proc, /dev, /tmp and /run, read-only kernel settings, of control groups its own alone, and a
// container's rights at most. It is Linux mechanics only and knows nothing of engines; the init imports it. Standard
// library and x/sys only.
//
// Everything is made in the mount namespace of the caller, so that nothing has to be undone: it ends with the engine.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Config says what the sandbox holds.
type Config struct {
	Hostname    string
	Hosts       string            // content of /etc/hosts
	ResolvConf  string            // content of /etc/resolv.conf; empty: the host's stays
	TmpDir      string            // host folder that becomes /tmp: on disk, so that large files do not count as memory
	Visible     []string          // paths that stay visible even where a private folder covers them
	Shared      []string          // real places: there, nothing else can be visible but them and what lies in them
	Hidden      []string          // folders that are covered by an empty one
	ReadOnly    []string          // folders that the engine may look at but not change
	Writable    []string          // folders in them that it may change; they stay visible
	DeviceNodes []string          // device nodes besides the harmless ones
	ShmBytes    int64             // size of /dev/shm
	Files       map[string][]byte // content of the private folder
	Covers      map[string][]byte // what files of the host show instead; those that the host lacks are left out
	Home        Alias             // a second path to a folder
	Groups      Groups            // the engine's own control groups, which the caller is in; zero: it sees none
	UID, GID    int               // owner of the private folder
	// Look opens, with the engine's user's rights, what paths of the user's lead to; nil: with this process's.
	Look func(files func()) error `json:"-"`
}

// PrivateDir is the folder that only the engine sees. It lies in the engine's own /dev, so that no mount point is
// needed on the host.
const PrivateDir = "/dev/muster"

// Step names the part of Enter that failed.
type Step struct {
	Name string
	Err  error
}

func (s *Step) Error() string { return s.Name + ": " + s.Err.Error() }
func (s *Step) Unwrap() error { return s.Err }

// Enter builds the sandbox. An error is a *Step. The caller must have all capabilities of its user namespace and be alone in a
// new mount namespace.
func Enter(c Config) error {
	if err := OwnRoot(); err != nil {
		return &Step{"own root", err}
	}
	if err := disarm(); err != nil {
		return &Step{"the host's kernel mounts", err}
	}
	hidden := resolvedAll(c.Hidden)
	covered := slices.Concat(coveredDirs, hidden)
	writable, err := openWritable(c.Writable)
	if err != nil {
		return &Step{"writable folders", err}
	}
	defer writable.close()
	shared := c.Shared
	for _, w := range writable {
		shared = append(shared[:len(shared):len(shared)], w.path)
	}
	var keep visible
	err = c.look(func() (err error) {
		keep, err = openVisible(slices.Concat(c.Visible, c.Writable), shared, covered)
		return err
	})
	if err != nil {
		return &Step{"visible paths", err}
	}
	defer keep.close()
	nodes, err := openNodes(append(append([]string{}, harmlessNodes...), c.DeviceNodes...))
	if err != nil {
		return &Step{"device nodes", err}
	}
	defer closeNodes(nodes)
	resolv := resolved("/etc/resolv.conf")
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"/tmp", func() error { return coverTmp(c.TmpDir) }}, // before its source is hidden
		{"/run", coverRun},
		{"/dev", func() error { return makeDev(nodes, c.ShmBytes) }},
		{"hidden folders", func() error { return hideAndKeep(hidden, keep) }},
		{"read-only folders", func() error { return readOnly(c.ReadOnly) }},
		{"writable folders", writable.mount},
		{"private folder", func() error { return makePrivate(c) }},
		{"/etc", func() error { return coverEtc(c, resolv) }},
		{"/sys", func() error { return coverSys(c.Groups) }},
		{"/proc", coverProc},
		{"home alias", func() error { return c.Home.make(c.look) }}, // what is hidden, read-only or the engine's own is that there too
		{"hostname", func() error { return unix.Sethostname([]byte(c.Hostname)) }},
	} {
		if err := step.do(); err != nil {
			return &Step{step.name, err}
		}
	}
	return nil
}

// look opens what paths of the engine's user lead to.
func (c Config) look(files func() error) error {
	if c.Look == nil {
		return files()
	}
	var failed error
	if err := c.Look(func() { failed = files() }); err != nil {
		return err
	}
	return failed
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", orElse(fstype, source), target, err)
	}
	return nil
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

func coverTmp(dir string) error {
	if err := mount(dir, "/tmp", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return restrict("/tmp", unix.MS_NOSUID|unix.MS_NODEV)
}

// restrict adds flags to those that a mount has. In a user namespace the host's cannot be taken away.
func restrict(path string, flags uintptr) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	has := uintptr(st.Flags) & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC) // the same bits, see statfs(2)
	return mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|has|flags, "")
}

// coverRun gives a private /run: the host's sockets (container engines, init systems, keyrings, our own) are no way out.
func coverRun() error {
	if err := mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64m,mode=0755"); err != nil {
		return err
	}
	return mkdirMode("/run/lock", 0o1777)
}

func mkdirMode(dir string, mode uint32) error {
	if err := unix.Mkdir(dir, mode); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return unix.Chmod(dir, mode) // the umask took its part
}

func makePrivate(c Config) error {
	if err := mkdirMode(PrivateDir, 0o700); err != nil {
		return err
	}
	if err := mount("tmpfs", PrivateDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64m,mode=0700"); err != nil {
		return err
	}
	for name, content := range c.Files {
		if err := writeFile(filepath.Join(PrivateDir, name), content, 0o600, c); err != nil {
			return err
		}
	}
	return os.Chown(PrivateDir, c.UID, c.GID)
}

func writeFile(path string, content []byte, mode os.FileMode, c Config) error {
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return os.Chown(path, c.UID, c.GID)
}

// resolved follows symbolic links before /run is covered: /etc/resolv.conf is often a link into it.
func resolved(path string) string {
	p, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return p
}

// coverEtc puts the engine's own name files, and what else it is to see, over the host's.
func coverEtc(c Config, resolv string) error {
	covers := map[string][]byte{"/etc/hostname": []byte(c.Hostname + "\n"), "/etc/hosts": []byte(c.Hosts)}
	if c.ResolvConf != "" && resolv != "" {
		covers[resolv] = []byte(c.ResolvConf)
	}
	for target, content := range covers {
		if err := coverFile(target, content); err != nil {
			return err
		}
	}
	for target, content := range c.Covers {
		if err := coverFile(target, content); err != nil {
			return err
		}
	}
	return nil
}

// coverFile mounts a file over the host's, with the same owner and mode. The source is in /dev, the one file system of the
// engine's own that is writable here, and goes from it once it is mounted.
func coverFile(target string, content []byte) error {
	var st unix.Stat_t
	if unix.Stat(target, &st) != nil {
		// A target below the private /run can be made; one that the host lacks is left out.
		if !strings.HasPrefix(target, "/run/") || os.MkdirAll(filepath.Dir(target), 0o755) != nil || os.WriteFile(target, nil, 0o644) != nil {
			return nil
		}
		st.Mode = 0o644
	}
	const source = "/dev/.muster-etc"
	if err := os.WriteFile(source, content, 0o600); err != nil {
		return err
	}
	err := os.Chown(source, int(st.Uid), int(st.Gid))
	if errors.Is(err, unix.EINVAL) { // a user namespace has no such user: then it is the engine's, who alone sees it
		err = nil
	}
	if err = errors.Join(err, os.Chmod(source, os.FileMode(st.Mode&0o777))); err != nil {
		return err
	}
	if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return os.Remove(source)
}
