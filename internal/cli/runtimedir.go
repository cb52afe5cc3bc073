package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"muster/engine"
)

// Names in the runtime folder.
const (
	socketName = "server.sock"
	tokenName  = "token"
)

// RuntimeDir is the folder of the server's socket and token: $MUSTER_RUNTIME_DIR, $XDG_RUNTIME_DIR/muster, /run/muster
// for root, /tmp/muster-UID. It need not exist. Who uses it calls CheckAbsolute.
func RuntimeDir(getenv func(string) string) string {
	if dir := getenv("MUSTER_RUNTIME_DIR"); dir != "" {
		return dir
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) { // its specification: else ignore it
		return filepath.Join(dir, "muster")
	}
	if os.Geteuid() == 0 {
		return "/run/muster"
	}
	return fmt.Sprintf("/tmp/muster-%d", os.Geteuid())
}

// sharedRuntimeDir is the folder of the socket at which a server answers that all users of the machine share.
const sharedRuntimeDir = "/run/muster"

// sharedDir is the runtime folder of a server that users share. XDG_RUNTIME_DIR is one user's alone.
func sharedDir(getenv func(string) string) string {
	if dir := getenv("MUSTER_RUNTIME_DIR"); dir != "" {
		return dir
	}
	return sharedRuntimeDir
}

// sharedServer is the address of the server that all users of this machine share, if one answers and nobody says that another
// folder is meant. Only root can have put it there.
func (a *app) sharedServer() (address string, there bool) {
	if a.getenv("MUSTER_RUNTIME_DIR") != "" {
		return "", false
	}
	info, err := os.Lstat(sharedRuntimeDir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return "", false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 0 {
		return "", false
	}
	socket := filepath.Join(sharedRuntimeDir, socketName)
	_, there = answers(socket)
	return "unix://" + socket, there
}

// ownServer reports whether a server of the user's own answers in a runtime folder.
func (a *app) ownServer(dir string) bool {
	if checkRuntimeDir(dir) != nil {
		return true // whatever it is: not passed over in silence
	}
	_, yes := answers(filepath.Join(dir, socketName))
	return yes
}

// openRuntimeDir lets all users go through a folder to the socket in it. What else is there has modes of its own.
func openRuntimeDir(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return engine.Errorf(engine.Unavailable, "the folder for the server's socket cannot be opened for all users: %w", err).
			WithHint("choose another folder (MUSTER_RUNTIME_DIR or --listen)")
	}
	return nil
}

// CheckAbsolute refuses a folder that a variable, or a flag, names relative to the working directory: another command, run elsewhere,
// would look for it elsewhere.
func CheckAbsolute(variable, dir string) error {
	if filepath.IsAbs(dir) {
		return nil
	}
	return engine.Errorf(engine.Invalid, "%s is %q: it must be an absolute path, which means the same from everywhere", variable, dir)
}

// maxSocket is the longest path of a socket, in bytes: sun_path of unix(7), without the zero at its end.
const maxSocket = 107

// CheckSocket refuses a path that is too long for the socket of a server.
func CheckSocket(path string) error {
	if len(path) <= maxSocket {
		return nil
	}
	return engine.Errorf(engine.Invalid, "the path of the server's socket, %s, has %d bytes, and the system allows %d", path, len(path), maxSocket).
		WithHint("set MUSTER_RUNTIME_DIR to a folder with a shorter path")
}

// SocketIn is the socket of a server whose runtime folder that is.
func SocketIn(runtimeDir string) string { return filepath.Join(runtimeDir, socketName) }

// makeRuntimeDir makes the folder with mode 0700, or checks the one that is there: in /tmp anybody could have made it, and
// would then be handed our token.
func makeRuntimeDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return engine.Errorf(engine.Unavailable, "the folder for the server's socket cannot be made: %w", err).
			WithHint("set MUSTER_RUNTIME_DIR to a folder that you may write to")
	}
	return checkRuntimeDir(dir)
}

// checkRuntimeDir refuses a folder that others may write to or own. One that does not exist is fine.
func checkRuntimeDir(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the folder for the server's socket: %w", err)
	}
	bad := ""
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		bad = "is no folder"
	case ok && stat.Uid != uint32(os.Geteuid()) && stat.Uid != 0:
		bad = fmt.Sprintf("belongs to another user (uid %d)", stat.Uid)
	case info.Mode().Perm()&0o022 != 0:
		bad = fmt.Sprintf("may be written to by others (mode %04o)", info.Mode().Perm())
	default:
		return nil
	}
	return engine.Errorf(engine.Conflict, "%s, the folder for the server's socket, %s", dir, bad).
		WithHint("choose a folder of your own, mode 0700 (MUSTER_RUNTIME_DIR or --listen)")
}

// tokenFile is where the token of the server at address lies: always in the runtime folder, which engines do not see, under a
// name made of the address. A socket may be anywhere.
func tokenFile(address, runtimeDir string) string {
	name := tokenName
	if path, ok := strings.CutPrefix(address, "unix://"); !ok {
		_, hostport, _ := strings.Cut(address, "://")
		name += "." + hostport[strings.LastIndexByte(hostport, ':')+1:]
	} else if socket := realSocket(path); socket != realSocket(filepath.Join(runtimeDir, socketName)) {
		name += fmt.Sprintf(".%.8x", sha256.Sum256([]byte(socket)))
	}
	return filepath.Join(runtimeDir, name)
}

// realSocket is one name for a socket whose folder has several.
func realSocket(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return filepath.Join(dir, name)
}
