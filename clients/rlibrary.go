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
)

const (
	rPackages = "apt-get install r-base-core r-cran-jsonlite r-cran-curl"
	// Installing takes two seconds; a machine that needs longer than this has another problem.
	installTimeout = 5 * time.Minute
	versionTimeout = time.Minute
)

var (
	// One installation at a time: the second launch then finds what the first one made.
	installing = make(chan struct{}, 1)

	known   = map[rIdentity]string{} // libraries by the R that they were made for
	knownMu sync.Mutex
)

// rIdentity tells one installation of R from another without starting it.
type rIdentity struct {
	path, cacheDir string
	size           int64
	changed        time.Time
}

// RLibrary returns a library folder under cacheDir in which the R packages cdsw and cml are installed, made by the R that
// rBin (the path of R or Rscript) belongs to, which run runs: engines can write to where it lies. The first call for a version
// of R takes seconds, others a few microseconds. Errors are *engine.Error, with the Debian packages that are missing.
func RLibrary(ctx context.Context, run engine.RunProbe, rBin, cacheDir string) (string, error) {
	info, err := os.Stat(rBin)
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "R is not installed: %v", err).WithHint("install it, on Debian: %s", rPackages)
	}
	id := rIdentity{rBin, cacheDir, info.Size(), info.ModTime()}
	knownMu.Lock()
	dir := known[id]
	knownMu.Unlock()
	if dir != "" && installed(dir) {
		return dir, nil
	}
	select {
	case installing <- struct{}{}:
		defer func() { <-installing }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	dir, err = makeLibrary(ctx, run, rBin, cacheDir)
	if err != nil {
		return "", err
	}
	knownMu.Lock()
	known[id] = dir
	knownMu.Unlock()
	return dir, nil
}

// makeLibrary installs the packages, unless that was done before for this version of R.
func makeLibrary(ctx context.Context, run engine.RunProbe, rBin, cacheDir string) (string, error) {
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
	place := sha256.Sum256([]byte(filepath.Dir(rBin)))
	dir := filepath.Join(cacheDir, fmt.Sprintf("r-%s-%s-%x", hash, version, place[:4]))
	if installed(dir) {
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
	if err := install(ctx, run, rBin, tmp); err != nil {
		return "", err
	}
	made, err := tempDir(cacheDir)
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "no place for the R packages: %v", err)
	}
	defer os.RemoveAll(made)
	if err := take(tmp, "library", made); err != nil {
		return "", engine.Errorf(engine.Unavailable, "what R CMD INSTALL made: %v", err)
	}
	if !installed(made) {
		return "", engine.Errorf(engine.Unavailable, "R CMD INSTALL did not install the packages cdsw and cml (%s)", rBin)
	}
	if err := appear(made, dir, func() bool { return installed(dir) }); err != nil {
		return "", engine.Errorf(engine.Unavailable, "put the R packages into %s: %v", dir, err)
	}
	return dir, nil
}

// installed reports whether both packages are in the library: somebody may have cleaned up in the cache.
func installed(library string) bool {
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
