package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// OOMEvents tells when the kernel kills a process of a group because of its memory limit.
type OOMEvents struct {
	group  *Group
	notify *os.File // an eventfd (version 1) or inotify (version 2)
	seen   int64
}

// OOMEvents starts to watch. What happened before is not told. The caller closes the result.
func (g *Group) OOMEvents() (*OOMEvents, error) {
	path, version, ok := g.file(Memory, "memory.oom_control", "memory.events")
	if !ok {
		return nil, missing("memory", Memory)
	}
	open := openInotify
	if version == 1 {
		open = openEventfd
	}
	notify, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("watch for the end of memory: %w", err)
	}
	seen, err := g.OOMKills()
	if err != nil {
		notify.Close()
		return nil, fmt.Errorf("watch for the end of memory: %w", err)
	}
	return &OOMEvents{group: g, notify: notify, seen: seen}, nil
}

// openEventfd asks the kernel to count up an eventfd whenever the group is out of memory.
func openEventfd(path string) (*os.File, error) {
	control, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(control)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	err = write(filepath.Join(filepath.Dir(path), "cgroup.event_control"), fmt.Sprintf("%d %d", fd, control))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "eventfd"), nil
}

func openInotify(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an inotify descriptor: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_DELETE_SELF); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "watch", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// Wait blocks until the kernel has killed a process of the group since OOMEvents or the last Wait, and returns how many.
// Close ends it with os.ErrClosed, and so should whoever removes the group: of that the kernel tells in version 1 alone (ErrGone).
// One call at a time.
func (o *OOMEvents) Wait() (int64, error) {
	buf := make([]byte, 4096) // eight bytes of an eventfd, or events of inotify
	for {
		if _, err := o.notify.Read(buf); err != nil {
			return 0, err
		}
		n, err := o.settle()
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// settle reads the counter after a notification. Version 1 notifies shortly before it kills and counts, and an event may
// pass without a kill when memory became free in the meantime; so the counter gets a moment.
func (o *OOMEvents) settle() (int64, error) {
	until := time.Now().Add(time.Second)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		now, err := o.group.OOMKills()
		if err != nil {
			if gone(err) {
				err = ErrGone
			}
			return 0, err
		}
		if n := now - o.seen; n > 0 {
			o.seen = now
			return n, nil
		}
		if o.group.paths.V1[Memory] == "" || time.Now().After(until) {
			return 0, nil
		}
		time.Sleep(wait)
	}
}

// Close ends the watching, and a Wait that is under way.
func (o *OOMEvents) Close() error {
	err := o.notify.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
