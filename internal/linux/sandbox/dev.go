package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// harmlessNodes are the device nodes that every engine gets.
var harmlessNodes = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

type node struct {
	path string
	host *os.File // the host's own
	mode uint32
	dev  uint64
	uid  uint32
	gid  uint32
}

// openNodes reads the numbers of the nodes before /dev is covered. A missing one is an error: it was asked for by name.
func openNodes(paths []string) (_ []node, err error) {
	nodes := make([]node, 0, len(paths))
	defer func() {
		if err != nil {
			closeNodes(nodes)
		}
	}()
	for _, p := range paths {
		fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: p, Err: err}
		}
		n := node{path: p, host: os.NewFile(uintptr(fd), p)}
		nodes = append(nodes, n)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: p, Err: err}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFCHR && st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return nil, fmt.Errorf("%s is no device node", p)
		}
		n.mode, n.dev, n.uid, n.gid = st.Mode, st.Rdev, st.Uid, st.Gid
		nodes[len(nodes)-1] = n
	}
	return nodes, nil
}

func closeNodes(nodes []node) {
	for _, n := range nodes {
		n.host.Close()
	}
}

func makeDev(nodes []node, shmBytes int64) error {
	if err := mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "size=1m,mode=0755"); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := n.make(); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if err := mkdirMode(dir, 0o755); err != nil {
			return err
		}
	}
	shm := fmt.Sprintf("mode=1777,size=%d", shmBytes)
	if err := errors.Join(
		mountTerminals(),
		mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, shm),
		mount("mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
	); err != nil {
		return err
	}
	return errors.Join(
		os.Symlink("pts/ptmx", "/dev/ptmx"),
		os.Symlink("/proc/self/fd", "/dev/fd"),
		os.Symlink("/proc/self/fd/0", "/dev/stdin"),
		os.Symlink("/proc/self/fd/1", "/dev/stdout"),
		os.Symlink("/proc/self/fd/2", "/dev/stderr"),
	)
}

// ttyGroup is the group that has terminals everywhere.
const ttyGroup = 5

// mountTerminals gives terminals to that group, unless a user namespace does not have it.
func mountTerminals() error {
	options := "newinstance,ptmxmode=0666,mode=0620"
	if groups, err := os.ReadFile("/proc/self/gid_map"); err != nil || mapped(string(groups), ttyGroup) {
		options += fmt.Sprintf(",gid=%d", ttyGroup)
	}
	return mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, options)
}

// mapped reports whether a user namespace has a number, by lines of its first number, the one outside, and how many there are.
func mapped(lines string, id int) bool {
	for line := range strings.Lines(lines) {
		var first, outside, n int
		if _, err := fmt.Sscan(line, &first, &outside, &n); err == nil && first <= id && id-first < n {
			return true
		}
	}
	return false
}

// make makes the node with the host's numbers, rights and owner. It stays below the /dev that was just mounted. In a user
// namespace nobody can make nodes: there it is the host's own, which has the rights that the host's user has.
func (n node) make() error {
	if err := os.MkdirAll(filepath.Dir(n.path), 0o755); err != nil {
		return err
	}
	err := unix.Mknod(n.path, n.mode, int(n.dev))
	if errors.Is(err, unix.EPERM) {
		if err := os.WriteFile(n.path, nil, 0o600); err != nil {
			return err
		}
		return mount(fdPath(n.host), n.path, "", unix.MS_BIND, "")
	}
	if err != nil {
		return &os.PathError{Op: "mknod", Path: n.path, Err: err}
	}
	return errors.Join(unix.Chmod(n.path, n.mode&0o777), unix.Chown(n.path, int(n.uid), int(n.gid)))
}
