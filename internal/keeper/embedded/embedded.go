// Package embedded carries the muster-keeper binary inside the muster binary and puts it on disk where it can be started.
// Package app imports it, nothing else.
package embedded

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"muster/engine"
)

//go:embed bin
var files embed.FS

// Extract puts the keeper into dir, under a name that its content decides, and returns its path. It is there once for all
// sessions, so that they share its pages. Safe when several processes do it at once.
func Extract(dir string) (string, error) {
	content, err := files.ReadFile("bin/muster-keeper")
	if err != nil {
		return "", engine.Errorf(engine.Internal, "this muster was built without its keeper").WithHint("make build")
	}
	sum := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	path := filepath.Join(dir, fmt.Sprintf("muster-keeper-%08x-%d", sum, len(content)))
	// The whole content counts: what is started as the owner of the server must be what was built.
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, content) {
		return path, nil
	}
	if err := write(path, content); err != nil {
		return "", engine.Errorf(engine.Unavailable, "the keeper cannot be put into %s: %v", dir, err)
	}
	return path, nil
}

// write makes the file whole or not at all.
func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keeper-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o755), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
