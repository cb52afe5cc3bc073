package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// write writes one value to a file that must exist.
func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(value))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("write %q to %s: %w", value, path, err)
		}
	}
}

// writeIfThere is write for files that not every kernel has.
func writeIfThere(path, value string) error {
	err := write(path, value)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// read reads what fits into buf. Not by os.ReadFile: the kernel's files can be polled, and so each would go through the runtime's poller.
func read(path string, buf []byte) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == nil:
			return string(buf[:n]), nil
		case !errors.Is(err, unix.EINTR):
			return "", &os.PathError{Op: "read", Path: path, Err: err}
		}
	}
}

func readInt(path string) (int64, error) {
	var buf [32]byte
	text, err := read(path, buf[:])
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}

// readKey reads a number from a file of lines such as "oom_kill 3".
func readKey(path, key string) (int64, error) {
	var buf [4096]byte // v2's cpu.stat, the longest that is read, has some 500
	text, err := read(path, buf[:])
	if err != nil {
		return 0, err
	}
	n, ok := parseKey(text, key)
	if !ok {
		return 0, fmt.Errorf("read %s: there is no %s", path, key)
	}
	return n, nil
}

func parseKey(text, key string) (int64, bool) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// gone reports whether an error says that the group does not exist any more.
func gone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) }
