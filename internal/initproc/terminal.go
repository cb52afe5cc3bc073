package initproc

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
)

// openTerminal makes the engine's terminal and returns its side of it; the other side, the master, is given away. It is made
// here, after the sandbox, and not by the keeper: terminals belong to the /dev/pts that they were made in, and programs
// look for their own in theirs (tty, ttyname).
func openTerminal(spec wire.EngineSpec, give func(master *os.File) error) (*os.File, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	master := os.NewFile(uintptr(fd), "terminal")
	defer master.Close()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("number of the terminal: %w", err)
	}
	size := &unix.Winsize{Row: uint16(spec.Terminal.Rows), Col: uint16(spec.Terminal.Cols)}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size); err != nil {
		return nil, fmt.Errorf("size of the terminal: %w", err)
	}
	name := fmt.Sprintf("/dev/pts/%d", number)
	tty, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := dressTerminal(spec, tty); err != nil {
		tty.Close()
		return nil, err
	}
	if err := give(master); err != nil {
		tty.Close()
		return nil, fmt.Errorf("hand the terminal over: %w", err)
	}
	return tty, nil
}

// dressTerminal gives the terminal to the engine's user, and lets its line discipline erase whole characters of UTF-8.
func dressTerminal(spec wire.EngineSpec, tty *os.File) error {
	fd := int(tty.Fd())
	if !spec.Plain {
		if err := tty.Chown(spec.UID, -1); err != nil {
			return err
		}
	}
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	mode.Iflag |= unix.IUTF8
	return unix.IoctlSetTermios(fd, unix.TCSETS, mode)
}
