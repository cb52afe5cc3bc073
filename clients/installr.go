package clients

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"muster/engine"
)

var rPackageNames = []string{"cdsw", "cml"} // in the order of their dependencies

// askR prints R's version, the first library that may be written to (the user's, where there is none yet), and whether that
// one is the user's.
const askR = `user <- path.expand(strsplit(Sys.getenv("R_LIBS_USER"), ":", fixed = TRUE)[[1L]][1L])
good <- .libPaths()[file.access(.libPaths(), 2L) == 0L]
writeLines(c(as.character(getRversion()), if (length(good)) good[1L] else if (is.na(user)) "" else user, R.home("bin")))`

func (i Interpreter) rFacts(ctx context.Context) (version, dir, bin string, err error) {
	out, err := i.ask(ctx, "", []string{"R_DEFAULT_PACKAGES=NULL"}, "--no-save", "--no-restore", "--no-echo", "-e", askR)
	if err != nil {
		return "", "", "", err
	}
	l := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(l) != 3 {
		return "", "", "", engine.Errorf(engine.Unavailable, "%s is no R: it says %q", i.Path, firstLine([]byte(out), nil))
	}
	if l[1] == "" {
		return "", "", "", engine.Errorf(engine.Unavailable, "R (%s) looks for packages in no folder that you may write to", l[2]).
			WithHint("set R_LIBS_USER to a folder of yours")
	}
	return l[0], l[1], l[2], nil
}

// InstallR installs our packages into the first library of R's that may be written to.
func InstallR(ctx context.Context, i Interpreter) (Result, error) {
	version, dir, bin, err := i.rFacts(ctx)
	if err != nil {
		return Result{}, err
	}
	r := Result{Interpreter: bin + ", R " + version, Folder: dir, Changed: true}
	for _, p := range rPackageNames {
		if there := filepath.Join(dir, p); exists(there) && !exists(filepath.Join(there, binaryFile)) {
			return r, engine.Errorf(engine.Conflict, "%s is there already, and is not Muster's", there).
				WithHint("remove it in R, with remove.packages(%q)", p)
		}
	}
	tmp, err := os.MkdirTemp("", "muster-r-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(tmp)
	tree, err := fs.Sub(files, "r")
	if err == nil {
		err = extract(tree, tmp)
	}
	for _, p := range rPackageNames {
		inst := filepath.Join(tmp, p, "inst")
		err = errors.Join(err, os.MkdirAll(inst, 0o755), os.WriteFile(filepath.Join(inst, binaryFile), []byte(i.Binary+"\n"), 0o644))
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return r, writable(err)
	}
	args := []string{"CMD", "INSTALL", "--no-docs", "--no-test-load", "--no-multiarch", "--library=" + dir}
	for _, p := range rPackageNames {
		args = append(args, filepath.Join(tmp, p))
	}
	if _, err := i.ask(ctx, "", []string{noAttach, "R_DEFAULT_PACKAGES=", "LC_ALL=C"}, args...); err != nil {
		if missing := missingPackages(err.Error()); missing != "" {
			return r, engine.Errorf(engine.Unavailable, "R needs the packages %s, which are not installed", missing).
				WithHint("install them, on Debian: %s", rPackages)
		}
		return r, fmt.Errorf("install the R packages: %w", err)
	}
	return r, nil
}

// UninstallR removes what InstallR made.
func UninstallR(ctx context.Context, i Interpreter) (Result, error) {
	version, dir, bin, err := i.rFacts(ctx)
	if err != nil {
		return Result{}, err
	}
	r := Result{Interpreter: bin + ", R " + version, Folder: dir}
	for _, p := range rPackageNames {
		there := filepath.Join(dir, p)
		if !exists(filepath.Join(there, binaryFile)) {
			continue
		}
		if err := os.RemoveAll(there); err != nil {
			return r, writable(err)
		}
		r.Changed = true
	}
	return r, nil
}
