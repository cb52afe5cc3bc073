package clients

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"muster/engine"
)

// Interpreter is one that gets our packages, or is to lose them.
type Interpreter struct {
	Path    string
	Environ []string // it is run with
	Binary  string   // the program muster, which the packages start; it is written beside them
}

// binaryFile holds Interpreter.Binary, in the package _muster of Python and in both of R. It also tells our packages from
// others of the same name.
const binaryFile = "binary"

// Result says what was done.
type Result struct {
	Interpreter string // its real path, and its version
	Folder      string // where the packages are, or were
	Changed     bool   // false: there was nothing to do
	Left        string // what could not be removed because it is not ours; "": nothing
}

// ask runs the interpreter outside of every project folder and returns its stdout.
func (i Interpreter) ask(ctx context.Context, code string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, i.Path, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = "/", append(append([]string{}, i.Environ...), env...), strings.NewReader(code)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "%s: %v: %s", i.Path, err, lastLines(said.String(), 5))
	}
	return out.String(), nil
}

// removeEmpty removes dir and the folders above it, as long as they are empty and below top.
func removeEmpty(dir, top string) {
	for strings.HasPrefix(dir, top+"/") && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func writable(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return engine.Errorf(engine.Unavailable, "%v", err).WithHint("run it as the owner of that folder, or name an interpreter of a virtual environment")
	}
	return err
}
