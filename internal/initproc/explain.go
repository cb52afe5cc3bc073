package initproc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
	"muster/internal/linux/sandbox"
)

// explain says why the interpreter could not be started. The kernel's error alone does not tell whether it means the
// working directory, the interpreter, or something that the interpreter needs.
func explain(spec wire.EngineSpec, cause error) (why error) {
	look := looker(spec)
	if look == nil {
		return explained(spec, cause)
	}
	if err := look(func() { why = explained(spec, cause) }); err != nil { // what the user may not see is not told
		return &sandbox.Step{Name: "start " + filepath.Base(spec.Argv[0]), Err: cause}
	}
	return why
}

func explained(spec wire.EngineSpec, cause error) error {
	user := fmt.Sprintf("user %d", spec.UID)
	if spec.Plain {
		user = fmt.Sprintf("user %d", os.Getuid())
	}
	if info, err := os.Stat(spec.Dir); err != nil || !info.IsDir() {
		return &sandbox.Step{Name: "working directory", Err: folderError(spec.Dir, err)}
	}
	command := spec.Argv[0]
	step := &sandbox.Step{Name: "start " + filepath.Base(command)}
	info, err := os.Stat(command)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		step.Err = fmt.Errorf("%s does not exist, or engines cannot see it", command)
	case err != nil:
		step.Err = err
	case info.IsDir():
		step.Err = fmt.Errorf("%s is a folder, no program", command)
	case info.Mode()&0o111 == 0:
		step.Err = fmt.Errorf("%s is not executable: chmod +x %s", command, command)
	case errors.Is(cause, unix.EACCES):
		step.Err = fmt.Errorf("%s may not enter %s or may not execute %s: %w", user, spec.Dir, command, cause)
	case errors.Is(cause, unix.E2BIG):
		step.Err = fmt.Errorf("arguments and environment are too large (%d kB; one value may have 128 kB): %w", size(spec)/1000, cause)
	case errors.Is(cause, unix.ENOENT):
		step.Err = fmt.Errorf("%s is there, but not what it needs to run (the interpreter in its first line, or the loader): %w", command, cause)
	case errors.Is(cause, unix.ENOEXEC):
		step.Err = fmt.Errorf("%s is no program for this machine: %w", command, cause)
	default:
		step.Err = fmt.Errorf("%s: %w", command, cause)
	}
	return step
}

func folderError(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the folder %s does not exist, or engines cannot see it", dir)
	case err != nil:
		return err
	}
	return fmt.Errorf("%s is no folder", dir)
}

func size(spec wire.EngineSpec) (n int) {
	for _, list := range [][]string{spec.Argv, spec.Env} {
		for _, s := range list {
			n += len(s) + 1
		}
	}
	return n
}
