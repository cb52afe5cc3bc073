package kernel

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// slowModules are those that are imported ahead for code that imports them, although nobody asked for it: they take long, many use
// them, and their import does nothing but define what is in them.
var slowModules = []string{"numpy", "pandas", "scipy"}

// sourceBytes is how much of a script is looked at: imports stand at its beginning.
const sourceBytes = 64 << 10

var pythonImport = regexp.MustCompile(`(?m)^(?:import[ \t]+([\w.]+(?:[ \t]+as[ \t]+\w+)?(?:[ \t]*,[ \t]*[\w.]+(?:[ \t]+as[ \t]+\w+)?)*)|from[ \t]+([\w.]+)[ \t]+import\b)`)

// preload returns the modules to import ahead of work such as this: those that were asked for, and the slow ones that its source,
// the code or else the script, imports at its outermost level.
func preload(r Request, script string) []string {
	source := []byte(r.Code)
	if script != "" {
		source = beginning(script)
	}
	var learned []string
	add := func(name string) {
		root, _, _ := strings.Cut(name, ".")
		if slices.Contains(slowModules, root) && !slices.Contains(r.Preload, name) {
			learned = append(learned, name)
		}
	}
	for _, m := range pythonImport.FindAllSubmatch(source[:min(len(source), sourceBytes)], -1) {
		add(string(m[2]))
		for name := range bytes.SplitSeq(m[1], []byte(",")) {
			if f := bytes.Fields(name); len(f) > 0 {
				add(string(f[0]))
			}
		}
	}
	slices.Sort(learned)
	return append(slices.Clone(r.Preload), slices.Compact(learned)...)
}

// beginning reads the first part of a regular file; nothing where that cannot be done at once.
func beginning(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	read, _ := io.ReadAll(io.LimitReader(f, sourceBytes)) // what was read is enough
	return read
}
