package kernel

import (
	"bytes"
	"io"
	"os"
	"path/filepath"

	"muster/engine"
)

// isBinary tells a real program, which may be run, from a wrapper script.
func isBinary(file string) bool {
	if !isExecutable(file) {
		return false // before it is opened: a FIFO would wait
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil {
		return false
	}
	return bytes.Equal(magic[:], []byte("\x7fELF"))
}

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
