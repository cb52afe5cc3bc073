package kernel

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"muster/engine"
)

// ScriptPath checks that script is a regular file and returns its absolute path. A relative name must stay in the project.
func ScriptPath(project, script string) (string, error) {
	if strings.ContainsRune(script, 0) {
		return "", engine.Errorf(engine.Invalid, "script name %q holds a NUL", script)
	}
	path := script
	if !filepath.IsAbs(script) {
		if !filepath.IsLocal(script) {
			return "", engine.Errorf(engine.Invalid, "script %q leads out of the project folder %s", script, project).
				WithHint("give a path inside the project, or an absolute one")
		}
		path = filepath.Join(project, script)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if target, linkErr := os.Readlink(path); linkErr == nil {
			return "", engine.Errorf(engine.Invalid, "script %q is a link that leads nowhere (to %s)", script, target)
		}
		return "", engine.Errorf(engine.Invalid, "script %q does not exist (looked for %s)", script, path).
			WithHint("give a path relative to the project folder %s", project)
	case err != nil:
		return "", engine.Errorf(engine.Invalid, "script %q cannot be read: %v", script, err)
	case info.IsDir():
		return "", engine.Errorf(engine.Invalid, "script %q is a folder, not a file", script)
	case !info.Mode().IsRegular():
		return "", engine.Errorf(engine.Invalid, "script %q is no regular file (%s)", script, info.Mode().Type())
	}
	return path, nil
}

// lookPath finds the first of the commands in path. The engine's PATH counts, not ours.
func lookPath(commands []string, path string) string {
	for _, c := range commands {
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, c)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && filepath.IsAbs(file) {
				return file
			}
		}
	}
	return ""
}

// isBinary tells a real program from a wrapper script.
func isBinary(file string) bool {
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

// installation lists the folders that an interpreter needs: its own installation, and that of the virtual environment
// through which it was named.
func installation(interpreter string) []string {
	prefix := func(file string) string { return filepath.Dir(filepath.Dir(file)) }
	out := []string{prefix(interpreter)}
	if real, err := filepath.EvalSymlinks(interpreter); err == nil && prefix(real) != out[0] {
		out = append(out, prefix(real))
	}
	return out
}
