package kernel

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"muster/engine"
)

// isBinary tells a real program, which may be run, from a wrapper script. Engines can put another file there at any time: so
// what was opened is looked at again, and a FIFO is not waited for.
func isBinary(file string) bool {
	if !isExecutable(file) {
		return false // before it is opened, which a device could take for an order
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !mayRun(info) {
		return false
	}
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil {
		return false
	}
	return bytes.Equal(magic[:], []byte("\x7fELF"))
}

func isExecutable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && mayRun(info)
}

func mayRun(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode()&0o111 != 0 }

// sameFile reports whether two paths lead to the same file.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// installation lists the folders that an interpreter needs: its own installation, and that of the virtual environment
// through which it was named.
func installation(interpreter string) []string {
	out := []string{engine.Installation(interpreter)}
	if real, err := filepath.EvalSymlinks(interpreter); err == nil && engine.Installation(real) != out[0] {
		out = append(out, engine.Installation(real))
	}
	return out
}
