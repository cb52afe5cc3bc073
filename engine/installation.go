package engine

import (
	"path/filepath"
	"slices"
)

// PrivateDirs are the host's folders of which every engine has its own.
var PrivateDirs = []string{"/tmp", "/run", "/dev", "/dev/shm"}

// Installation is the folder that holds a program, an absolute path, and what belongs to it: the one around its bin. A private
// folder is none, so that of a program right below one it is the program's own folder, or the program itself.
func Installation(program string) string {
	bin := filepath.Dir(program)
	switch around := filepath.Dir(bin); {
	case slices.Contains(PrivateDirs, bin):
		return program
	case slices.Contains(PrivateDirs, around):
		return bin
	default:
		return around
	}
}
