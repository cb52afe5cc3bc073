// Package project is the settings of a project: what its file muster.toml says about names, variables, sizes, kernels, limits
// and logs. It reads and checks; what follows from a setting is the manager's. All keys are optional, and a project without
// the file has the zero Settings.
//
// Ideas. The file is for people: an unknown key or a wrong value is an error with its line, what is wanted and what to do,
// never something that is passed over. And it lies among the project's files, which engines write to, so that nothing in it may
// give an engine more than it has: it is read as a small regular file and not through a link, a kernel's command by path
// shows engines nothing (package kernel), limits come on top of the server's, and the owner is but a name.
//
// The manager reads the settings when it creates a session, and the server's doctor to show what is wrong with them. It looks
// at the packages engine and kernel.
package project

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/kernel"
)

// FileName is the settings' file in the project's folder.
const FileName = "muster.toml"

// Home is the folder under which scripts of the original know their project.
const Home = "/home/cdsw"

// Settings is what the file says. A zero field was not said.
type Settings struct {
	Name        string
	Owner       string
	HomeAlias   bool              // Home shows the project's folder
	Environment map[string]string // for every engine
	Session     Size              // of sessions that ask for none
	Worker      Size              // of workers that ask for none
	Preload     []string          // Python modules that workers have imported before their work comes
	Kernels     []kernel.Own
	Limits      Limits
	Logs        Logs
}

// Size is what an engine gets.
type Size struct {
	CPU    float64 // cores
	Memory float64 // gigabytes
	GPUs   int
}

// Limits is the most that the project's engines may have together, at any time; 0 is no limit.
type Limits struct {
	Workers int
	CPU     float64
	Memory  float64 // gigabytes
	GPUs    int
	HardCPU bool // an engine gets no more CPU than it asked for, also if nobody else wants it
}

// Logs is how long the output of sessions that have ended is kept; 0 is for ever.
type Logs struct {
	Days int
	Size float64 // gigabytes
}

// Read reads the settings of a project; false if it has no file. Errors are for people.
func Read(folder string) (Settings, bool, error) {
	path := filepath.Join(folder, FileName)
	content, err := load(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // what is wrong with the folder is for others to say
		return Settings{}, false, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrPermission) { // with the right to the folder, the file could be looked at
			return Settings{}, false, engine.Errorf(engine.Invalid, "you may not look into the project folder %s: permission denied", folder).
				WithHint("go to a folder of your own (muster run: or name one with --project), or ask the owner of this one for the right to enter it")
		}
	}
	if err != nil {
		return Settings{}, true, engine.Errorf(engine.Invalid, "the settings %s cannot be used: %v", path, err).
			WithHint("correct that, or remove the file")
	}
	s, problem := parse(content)
	if problem != nil {
		return Settings{}, true, engine.Errorf(engine.Invalid, "%s, %v", path, problem).
			WithHint("correct the line and start again (docs/settings.md lists what may stand there)")
	}
	return s, true, nil
}
