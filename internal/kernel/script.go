package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"muster/engine"
)

// privateDirs are the host's folders of which every engine has its own, or sees nothing.
var privateDirs = append([]string{"/proc"}, engine.PrivateDirs...)

// maxLinks is as many links as the kernel follows in one path.
const maxLinks = 40

// scriptOf returns the absolute path of the script, "" for code.
func scriptOf(r Request) (string, error) {
	if r.Script == "" {
		return "", nil
	}
	return scriptPath(r)
}

// scriptPath checks that script is a regular file and returns its absolute path. A relative name must stay in the project.
// If an engine asks, the file must be one that engines can see, and an error tells nothing of those that they cannot.
func scriptPath(r Request) (string, error) {
	project, script := r.Project, r.Script
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
	file := path
	if !r.Trusted {
		var shared bool
		if file, shared = follow(r, path); !shared {
			return "", engine.Errorf(engine.Invalid, "script %q lies in a folder that workers do not share: put it into the project", script)
		}
	}
	return path, checkScript(project, script, path, file)
}

// checkScript checks the file to which path leads.
func checkScript(project, script, path, file string) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if target, linkErr := os.Readlink(path); linkErr == nil {
			return engine.Errorf(engine.Invalid, "script %q is a link that leads nowhere (to %s)", script, target)
		}
		if path == script {
			return engine.Errorf(engine.Invalid, "script %q does not exist", script)
		}
		return engine.Errorf(engine.Invalid, "script %q does not exist (looked for %s)", script, path).
			WithHint("give a path relative to the project folder %s", project)
	case err != nil:
		return engine.Errorf(engine.Invalid, "script %q cannot be read: %v", script, err)
	case info.IsDir():
		return engine.Errorf(engine.Invalid, "script %q is a folder, not a file", script)
	case !info.Mode().IsRegular():
		return engine.Errorf(engine.Invalid, "script %q is no regular file (%s)", script, info.Mode().Type())
	}
	return nil
}

// follow walks path link by link and returns where it leads. It stops, with false, before it looks at anything in a private
// folder outside of the project: whether something is there is not for engines to learn.
func follow(r Request, path string) (string, bool) {
	given := filepath.Clean(r.Project)
	root, err := filepath.EvalSymlinks(given)
	if err != nil || !slices.Contains(r.Shared, root) {
		root = given // an engine may have turned it into a link since
	}
	path = filepath.Clean(path)
	if rest, ok := beneath(path, given); ok {
		path = filepath.Join(root, rest) // the project is shared, whatever links led to it
	}
	at, rest := "/", parts(path)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		if hidden(next, root) {
			return "", false
		}
		rest = rest[1:]
		target, err := os.Readlink(next)
		if err != nil {
			at = next // no link, or nothing at all
			continue
		}
		if links++; links > maxLinks {
			return next, true // the kernel's error says it
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(parts(target), rest...)
	}
	return at, true
}

// parts splits a path into its names; ".." stays, to be taken where it stands.
func parts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" })
}

// hidden reports whether path lies in a private folder and neither in the project nor on the way to it.
func hidden(path, project string) bool {
	if _, in := beneath(path, project); in {
		return false
	}
	if _, on := beneath(project, path); on {
		return false
	}
	return slices.ContainsFunc(privateDirs, func(dir string) bool {
		rest, in := beneath(path, dir)
		return in && rest != "."
	})
}

// beneath returns path relative to dir, if it is dir or lies in it.
func beneath(path, dir string) (string, bool) {
	rest, err := filepath.Rel(dir, path)
	return rest, err == nil && filepath.IsLocal(rest)
}
