package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"muster/engine"
)

// The packages are copied, with what package managers write about a distribution, so that pip and editors know them:
// https://packaging.python.org/en/latest/specifications/recording-installed-packages/
const (
	distribution = "muster_clients"
	distInfo     = ".dist-info"
	noAttach     = "MUSTER_ATTACH=off" // an import is only to tell where the package is
)

var pythonPackages = []string{"cdsw", "cml", "muster", "_muster"}

// askPython prints what decides where packages go. It runs in every Python, to be able to say which is too old.
const askPython = `import sys
sys.path.pop(0)
import json, os, site, sysconfig
def out(): return {
    "executable": sys.executable, "version": ".".join(map(str, sys.version_info[:3])), "old": sys.version_info < (3, 8),
    "venv": sys.prefix != getattr(sys, "base_prefix", sys.prefix), "purelib": sysconfig.get_path("purelib"),
    "managed": os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")), "path": sys.path,
    "user": site.getusersitepackages() if site.ENABLE_USER_SITE else "", "userbase": site.getuserbase()}
print(json.dumps(out()))`

type pythonFacts struct {
	Executable, Version, Purelib, User, Userbase string
	Old, Venv, Managed                           bool
	Path                                         []string
}

// folder chooses as pip does: a virtual environment's folder, that of an interpreter which nobody else manages and to which
// we may write, or the user's own.
func (f pythonFacts) folder() (string, error) {
	switch {
	case f.Venv, !f.Managed && slices.Contains(f.Path, f.Purelib) && unix.Access(f.Purelib, unix.W_OK) == nil:
		return f.Purelib, nil
	case f.User != "":
		return f.User, nil
	}
	return "", engine.Errorf(engine.Unavailable, "%s looks for packages in no folder that you may write to", f.Executable).
		WithHint("make a virtual environment and name its interpreter: muster clients install --python PATH")
}

func (i Interpreter) pythonFacts(ctx context.Context) (f pythonFacts, dir string, err error) {
	out, err := i.ask(ctx, askPython, nil, "-")
	if err != nil {
		return f, "", err
	}
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		return f, "", engine.Errorf(engine.Unavailable, "%s is no Python: it says %q", i.Path, firstLine([]byte(out), err))
	}
	if f.Old {
		return f, "", engine.Errorf(engine.Unavailable, "%s is Python %s, and the packages need 3.8 or newer", f.Executable, f.Version).
			WithHint("name another: muster clients install --python PATH")
	}
	dir, err = f.folder()
	return f, dir, err
}

// InstallPython copies our packages to where the interpreter finds them, all or none. Packages of the same names that are not
// ours stay as they are: that is an error.
func InstallPython(ctx context.Context, i Interpreter) (Result, error) {
	f, dir, err := i.pythonFacts(ctx)
	if err != nil {
		return Result{}, err
	}
	r := Result{Interpreter: f.Executable + ", Python " + f.Version, Folder: dir}
	old, err := installedPython(dir)
	if err != nil {
		return r, err
	}
	if r.Changed, err = i.copyPython(dir, old); err != nil {
		return r, fmt.Errorf("put the packages into %s: %w", dir, writable(err))
	}
	where, err := i.ask(ctx, "import sys; sys.path.pop(0); import cdsw; print(cdsw.__file__)", []string{noAttach}, "-")
	if err != nil {
		return r, err
	}
	if where = strings.TrimSpace(where); path.Dir(path.Dir(where)) != dir {
		return r, engine.Errorf(engine.Conflict, "the packages are in %s, but %s finds another cdsw before them: %s", dir, f.Executable, where).
			WithHint("remove that one, or take its folder from PYTHONPATH")
	}
	return r, nil
}

// UninstallPython removes what InstallPython made, and what Python made of it.
func UninstallPython(ctx context.Context, i Interpreter) (Result, error) {
	f, dir, err := i.pythonFacts(ctx)
	if err != nil {
		return Result{}, err
	}
	r := Result{Interpreter: f.Executable + ", Python " + f.Version, Folder: dir}
	old, err := ownedPython(dir)
	if err != nil || len(old) == 0 {
		return r, err
	}
	r.Changed = true
	if err := removeRecorded(dir, old); err != nil {
		return r, writable(err)
	}
	for _, p := range pythonPackages {
		if exists(filepath.Join(dir, p)) {
			r.Left = strings.TrimSpace(r.Left + " " + filepath.Join(dir, p))
		}
	}
	if dir == f.User {
		removeEmpty(dir, f.Userbase)
	}
	return r, nil
}

// installedPython lists our files in dir; others' packages of our names are an error.
func installedPython(dir string) ([]string, error) {
	old, err := ownedPython(dir)
	if err != nil {
		return nil, err
	}
	for _, p := range pythonPackages {
		for _, name := range []string{p, p + ".py"} {
			ours := slices.ContainsFunc(old, func(f string) bool { return strings.HasPrefix(f, name+"/") })
			if there := filepath.Join(dir, name); exists(there) && !ours {
				return nil, engine.Errorf(engine.Conflict, "%s is there already, and is not Muster's", there).
					WithHint("remove it, or use another interpreter, such as a virtual environment's: muster clients install --python PATH")
			}
		}
	}
	return old, nil
}

// ownedPython reads which files in dir are ours.
func ownedPython(dir string) (files []string, err error) {
	records, err := filepath.Glob(filepath.Join(globQuote(dir), distribution+"-*"+distInfo, "RECORD"))
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		b, err := os.ReadFile(r)
		if err != nil {
			return nil, err
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			name, _, _ := strings.Cut(line, ",")
			if name != "" && filepath.IsLocal(name) {
				files = append(files, name)
			}
		}
	}
	return files, nil
}

var globSpecial = regexp.MustCompile(`[*?\[\\]`)

func globQuote(s string) string { return globSpecial.ReplaceAllString(s, `\$0`) }

// copyPython makes dir hold our packages; false if it does already.
func (i Interpreter) copyPython(dir string, old []string) (bool, error) {
	wanted, err := i.pythonFiles()
	if err != nil {
		return false, err
	}
	same := len(old) == len(wanted)
	for name, content := range wanted {
		got, err := os.ReadFile(filepath.Join(dir, name))
		same = same && err == nil && bytes.Equal(got, content)
	}
	if same {
		return false, nil
	}
	if err := removeRecorded(dir, old); err != nil {
		return false, err
	}
	names := make([]string, 0, len(wanted))
	for name := range wanted {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { // RECORD first: what follows is then known to be ours
		first := func(s string) int {
			if path.Base(s) == "RECORD" {
				return 0
			}
			return 1
		}
		if d := first(a) - first(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return false, err
		}
		if err := os.WriteFile(file, wanted[name], 0o644); err != nil {
			return false, err
		}
	}
	return true, nil
}

var pythonVersion = regexp.MustCompile(`__version__ = "([^"]+)"`)

// pythonFiles are the packages and the description of the distribution, by their paths in site-packages.
func (i Interpreter) pythonFiles() (map[string][]byte, error) {
	tree, err := fs.Sub(files, "python")
	if err != nil {
		return nil, err
	}
	wanted := map[string][]byte{"_muster/" + binaryFile: []byte(i.Binary + "\n")}
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			wanted[name], err = fs.ReadFile(tree, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	version := pythonVersion.FindSubmatch(wanted["_muster/_version.py"])
	if version == nil {
		return nil, errors.New("the Python packages do not tell their version")
	}
	info := fmt.Sprintf("%s-%s%s/", distribution, version[1], distInfo)
	wanted[info+"METADATA"] = fmt.Appendf(nil, "Metadata-Version: 2.1\nName: %s\nVersion: %s\nSummary: The workers of a Muster session\n",
		strings.ReplaceAll(distribution, "_", "-"), version[1])
	wanted[info+"INSTALLER"] = []byte("muster\n")
	var record []string
	for name, content := range wanted {
		sum := sha256.Sum256(content)
		record = append(record, fmt.Sprintf("%s,sha256=%s,%d", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(content)))
	}
	record = append(record, info+"RECORD,,")
	slices.Sort(record)
	wanted[info+"RECORD"] = []byte(strings.Join(record, "\n") + "\n")
	return wanted, nil
}

// removeRecorded removes files below dir, what Python compiled of them, and the folders that are empty then.
func removeRecorded(dir string, names []string) error {
	folders := map[string]bool{}
	var record []string
	for _, name := range names {
		if path.Base(name) == "RECORD" { // last: what was not removed stays known to be ours
			record = append(record, name)
		}
	}
	for _, name := range append(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return path.Base(n) == "RECORD" }), record...) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		folders[path.Dir(name)] = true
		compiled := filepath.Join(dir, path.Dir(name), "__pycache__", strings.TrimSuffix(path.Base(name), ".py"))
		found, _ := filepath.Glob(globQuote(compiled) + ".*.pyc")
		for _, c := range found {
			if err := os.Remove(c); err != nil {
				return err
			}
		}
	}
	for f := range folders {
		if f != "." {
			os.Remove(filepath.Join(dir, f, "__pycache__"))
			removeEmpty(filepath.Join(dir, f), dir)
		}
	}
	return nil
}
