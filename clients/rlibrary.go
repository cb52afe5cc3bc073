package clients

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/engine"
	"muster/internal/turns"
)

const (
	rPackages = "apt-get install r-base-core r-cran-jsonlite r-cran-curl"
	// Installing takes two seconds; a machine that needs longer than this has another problem.
	installTimeout = 5 * time.Minute
	versionTimeout = time.Minute
	installAtOnce  = 4
	maxKnown       = 1000
	// keptOfLane is how many libraries a project keeps for the R of its own settings, or the R at one place for its versions.
	keptOfLane = 8
)

var (
	// Of one lane one at a time: the second launch then finds what the first one made. Of each user apart, who hold up nobody else.
	installing   = map[string]*turns.Turns{}
	installingMu sync.Mutex

	known   = map[rIdentity]string{} // libraries by the R that they were made for
	knownMu sync.Mutex
)

// rIdentity tells one installation of R from another without starting it.
type rIdentity struct {
	path, cacheDir, project, user string
	size                          int64
	changed                       time.Time
}

// rProfile lies in the library: an R whose R_PROFILE names it finds both packages.
const rProfile = "muster.Rprofile"

// RLibrary returns a library folder under cacheDir in which the R packages cdsw and cml are installed, made by the R that
// rBin (the path of R or Rscript) belongs to, which run runs: engines can write to where it lies. The first call for a version
// of R takes seconds, others a few microseconds. project is the one whose own settings, which engines may have written, say
// where that R lies, "" if the session's PATH does: nobody else waits for that R or gets what it made. Errors are *engine.Error, with the Debian packages that are missing.
func RLibrary(ctx context.Context, run engine.RunProbe, project, rBin, cacheDir string) (string, error) {
	return RLibraryFor(ctx, run, nil, project, rBin, cacheDir)
}

// RLibraryFor is RLibrary on behalf of a user, who gets libraries of his own: whoever runs the R that makes one can change what
// it makes.
func RLibraryFor(ctx context.Context, run engine.RunProbe, on *engine.Behalf, project, rBin, cacheDir string) (string, error) {
	run = runAs(on, run)
	var info fs.FileInfo
	err := on.Try(func() (err error) {
		info, err = os.Stat(rBin)
		return err
	})
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "R is not installed: %v", err).WithHint("install it, on Debian: %s", rPackages)
	}
	id := rIdentity{rBin, cacheDir, project, on.Key(), info.Size(), info.ModTime()}
	if dir := knownLibrary(id); dir != "" {
		return dir, nil
	}
	lane := laneOf(on, project, rBin)
	installing := turnsOf(on)
	done, err := installing.Begin(ctx, lane)
	if err != nil {
		return "", err
	}
	defer done()
	if dir := knownLibrary(id); dir != "" { // since this waits
		return dir, nil
	}
	key := fmt.Sprintf("%q %q %q %q %d %v", on.Key(), project, rBin, cacheDir, id.size, id.changed)
	if err := installing.Refused(key); err != nil {
		return "", err
	}
	dir, err := makeLibrary(ctx, run, on, lane, rBin, cacheDir)
	if err != nil {
		if ctx.Err() == nil { // else its caller went away
			installing.Refuse(key, err)
		}
		return "", err
	}
	knownMu.Lock()
	defer knownMu.Unlock()
	if len(known) >= maxKnown {
		clear(known) // asking again costs less than knowing who was asked last
	}
	known[id] = dir
	return dir, nil
}

func turnsOf(on *engine.Behalf) *turns.Turns {
	installingMu.Lock()
	defer installingMu.Unlock()
	if installing[on.Key()] == nil {
		installing[on.Key()] = turns.New(installAtOnce)
	}
	return installing[on.Key()]
}

// laneOf says who waits for whom.
func laneOf(on *engine.Behalf, project, rBin string) string {
	if on != nil {
		return "user " + on.Key() // one lane: a user can think of any number of places
	}
	if project != "" {
		return "project " + project
	}
	return "place " + filepath.Dir(rBin)
}

// knownLibrary is what was made for that R, "" if it is not there.
func knownLibrary(id rIdentity) string {
	knownMu.Lock()
	dir := known[id]
	knownMu.Unlock()
	if dir == "" || !installed(dir) {
		return ""
	}
	return dir
}

// makeLibrary installs the packages, unless that was done before for this version of R.
func makeLibrary(ctx context.Context, run engine.RunProbe, on *engine.Behalf, lane, rBin, cacheDir string) (string, error) {
	version, err := rVersion(ctx, run, rBin)
	if err != nil {
		return "", err
	}
	tree, err := fs.Sub(files, "r")
	if err != nil {
		return "", err
	}
	hash, err := contentHash(tree)
	if err != nil {
		return "", err
	}
	// By where that R lies, too: the version is its own word, and one that an engine wrote into a project makes no library for
	// another's.
	of := "r-" + short(lane) + "-"
	dir := filepath.Join(cacheDir, fmt.Sprintf("%s%s-%s-%s", of, hash, version, short(filepath.Dir(rBin))))
	if installed(dir) {
		now := time.Now()
		os.Chtimes(dir, now, now) // the last ones used are kept
		return dir, nil
	}
	tmp, err := tempDir(cacheDir)
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "no place for the R packages: %v", err)
	}
	defer os.RemoveAll(tmp)
	if err := errors.Join(extract(tree, filepath.Join(tmp, "sources")), os.Mkdir(filepath.Join(tmp, "library"), 0o755)); err != nil {
		return "", engine.Errorf(engine.Unavailable, "unpack the R packages: %v", err)
	}
	if err := give(on, tmp); err != nil {
		return "", engine.Errorf(engine.Unavailable, "no place for the R packages: %v", err)
	}
	if err := install(ctx, run, rBin, tmp); err != nil {
		return "", err
	}
	made, err := tempDir(cacheDir)
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "no place for the R packages: %v", err)
	}
	defer os.RemoveAll(made)
	if err := take(on, tmp, "library", made); err != nil {
		return "", engine.Errorf(engine.Unavailable, "what R CMD INSTALL made: %v", err)
	}
	profile, err := fs.ReadFile(tree, rProfile)
	if err == nil {
		err = os.WriteFile(filepath.Join(made, rProfile), profile, 0o644)
	}
	if err == nil {
		err = os.Chmod(filepath.Join(made, rProfile), 0o644) // whatever the umask
	}
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "write R's startup file: %v", err)
	}
	if !installed(made) {
		return "", engine.Errorf(engine.Unavailable, "R CMD INSTALL did not install the packages cdsw and cml (%s)", rBin)
	}
	if err := appear(made, dir, func() bool { return installed(dir) }); err != nil {
		return "", engine.Errorf(engine.Unavailable, "put the R packages into %s: %v", dir, err)
	}
	if err := keepNewest(cacheDir, of, keptOfLane); err != nil {
		return "", engine.Errorf(engine.Unavailable, "remove old R libraries: %v", err)
	}
	return dir, nil
}

// short is enough of a name's hash to tell it from others, of whoever chose it.
func short(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:16] }

// keepNewest removes the folders whose names begin with prefix but for the n used last: versions and places are the word of
// programs that engines may have written, who could think of ever new ones.
func keepNewest(dir, prefix string, n int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var old []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), prefix) {
			old = append(old, info)
		}
	}
	slices.SortFunc(old, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, info := range old[min(n, len(old)):] {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, info.Name())))
	}
	return err
}

// installed reports whether both packages and the startup file are in the library: somebody may have cleaned up in the cache.
func installed(library string) bool {
	if _, err := os.Stat(filepath.Join(library, rProfile)); err != nil {
		return false
	}
	for _, p := range []string{"cdsw", "cml"} {
		for _, f := range []string{"DESCRIPTION", "NAMESPACE", "R/" + p + ".rdb", "R/" + p + ".rdx", "Meta/package.rds"} {
			if _, err := os.Stat(filepath.Join(library, p, f)); err != nil {
				return false
			}
		}
	}
	return true
}

var versionPattern = regexp.MustCompile(`version (\d+\.\d+\.\d+)`)

// rVersion asks R or Rscript for its version.
func rVersion(ctx context.Context, run engine.RunProbe, rBin string) (string, error) {
	asking, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	stdout, stderr, err := run(asking, engine.Probe{Argv: []string{rBin, "--version"}, Env: rEnv(nil), Dir: "/", Visible: installation(rBin)})
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	out := append(stdout, stderr...) // R 4.2's Rscript tells its version on stderr
	found := versionPattern.FindSubmatch(out)
	if err != nil || found == nil {
		return "", engine.Errorf(engine.Unavailable, "%s does not tell the version of R: %s", rBin, firstLine(out, err)).
			WithHint("install R, on Debian: %s", rPackages)
	}
	return string(found[1]), nil
}

// install runs R CMD INSTALL on tmp/sources; tmp, with the library in it, is all that it can write to and engines cannot.
func install(ctx context.Context, run engine.RunProbe, rBin, tmp string) error {
	r, library := rBin, filepath.Join(tmp, "library")
	if filepath.Base(rBin) != "R" {
		r = filepath.Join(filepath.Dir(rBin), "R")
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	stdout, stderr, err := run(ctx, engine.Probe{
		Argv: []string{r, "CMD", "INSTALL", "--no-docs", "--no-test-load", "--no-multiarch", "--no-staged-install",
			"--library=" + library, "cdsw", "cml"}, // in this order: cml looks for cdsw
		Dir: filepath.Join(tmp, "sources"), Visible: installation(r), Writable: []string{tmp},
		Env: rEnv(map[string]string{
			"LC_ALL": "C", "R_DEFAULT_PACKAGES": "", "TMPDIR": tmp,
			"R_LIBS": strings.TrimSuffix(library+":"+os.Getenv("R_LIBS"), ":"),
		}),
	})
	out := string(stdout) + string(stderr)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("install the R packages: %w", ctx.Err())
	}
	if missing := missingPackages(out); missing != "" {
		return engine.Errorf(engine.Unavailable, "R needs the packages %s, which are not installed", missing).
			WithHint("install them, on Debian: %s", rPackages)
	}
	return engine.Errorf(engine.Unavailable, "R CMD INSTALL of the packages cdsw and cml: %v: %s", err, lastLines(out, 5)).
		WithHint("R 4.0 or newer is needed, with jsonlite and curl; on Debian: %s", rPackages)
}

var missingPattern = regexp.MustCompile(`(?m)^ERROR: dependenc(?:y|ies) (.*?) (?:is|are) not available`)

// missingPackages returns those that R CMD INSTALL found missing, such as "curl, jsonlite".
func missingPackages(out string) string {
	found := missingPattern.FindStringSubmatch(out)
	if found == nil {
		return ""
	}
	return strings.NewReplacer("'", "", "‘", "", "’", "").Replace(found[1])
}

// rEnv is what of the server's environment R needs, and set. The rest, such as a server's token, is not for programs that
// engines may have put there.
func rEnv(set map[string]string) []string {
	var env []string
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		_, over := set[k]
		if !over && (strings.HasPrefix(k, "R_") || slices.Contains([]string{"PATH", "HOME", "USER", "LOGNAME", "TZ", "LD_LIBRARY_PATH"}, k)) {
			env = append(env, kv)
		}
	}
	for k, v := range set {
		env = append(env, k+"="+v)
	}
	return env
}

// installation is the folder in which R and what belongs to it lie.
func installation(rBin string) []string { return []string{engine.Installation(rBin)} }

func firstLine(out []byte, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" && err != nil {
		return err.Error()
	}
	return line
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
