package clients

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/engine"
)

// requireR returns the path of Rscript, or skips.
func requireR(t *testing.T) string {
	t.Helper()
	r, err := exec.LookPath("Rscript")
	if err != nil {
		t.Skip("capability R: no Rscript on the PATH")
	}
	return r
}

// direct runs a probe without a sandbox, which is the driver's to make.
func direct(ctx context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Env, cmd.Dir = p.Env, p.Dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.Bytes(), errOut.Bytes(), err
}

func TestRLibrary(t *testing.T) {
	rscript, cache := requireR(t), t.TempDir()
	begun := time.Now()
	dir, err := RLibrary(t.Context(), direct, "", rscript, cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("installed in %v", time.Since(begun).Round(time.Millisecond))
	onlyEntry(t, cache, filepath.Base(dir))
	asKernel(t, rscript, dir)

	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		info, statErr := os.Stat(name)
		if err != nil || statErr != nil || info.Mode().Perm()&0o044 != 0o044 {
			t.Errorf("%s cannot be read by others: %v %v", name, err, statErr)
		}
		return nil
	})

	// Known, found, and found by the other name of the same R.
	for _, bin := range []string{rscript, filepath.Join(filepath.Dir(rscript), "R")} {
		before, _ := os.Stat(dir)
		again, err := RLibrary(t.Context(), direct, "", bin, cache)
		if after, _ := os.Stat(dir); err != nil || again != dir || !os.SameFile(before, after) {
			t.Errorf("%s: made again: %q, %v", bin, again, err)
		}
	}

	// Damaged, it is made again.
	if err := os.RemoveAll(filepath.Join(dir, "cml")); err != nil {
		t.Fatal(err)
	}
	if again, err := RLibrary(t.Context(), direct, "", rscript, cache); err != nil || again != dir || !installed(dir) {
		t.Errorf("not repaired: %q, %v", again, err)
	}
	onlyEntry(t, cache, filepath.Base(dir))
}

// asKernel looks at R as kernels start it: both packages are there without library(), from the last of R's libraries.
func asKernel(t *testing.T, rscript, library string) {
	t.Helper()
	home, own := t.TempDir(), t.TempDir()
	profile := filepath.Join(home, ".Rprofile")
	if err := os.WriteFile(profile, []byte("cat('hooks in time:', !any(c('graphics', 'grDevices') %in% loadedNamespaces()), '\n')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(rscript, "-e", `
stopifnot(identical(.libPaths(), c("`+own+`", setdiff(.libPaths(), c("`+own+`", "`+library+`")), "`+library+`")))
stopifnot(!anyNA(match(c("package:graphics", "package:cdsw", "package:cml"), search())))
cat(environmentName(environment(socketConnection)), "")
.libPaths(character())
stopifnot(identical(tail(.libPaths(), 1L), "`+library+`"), .libPaths()[1L] != "`+library+`")
library(cml)
stopifnot(identical(cml::launch.workers, cdsw::launch_workers), identical(image, graphics::image), identical(cml::image, image))`)
	cmd.Env = append(os.Environ(), noAttach, "R_PROFILE="+filepath.Join(library, rProfile), "R_PROFILE_USER="+profile, "R_LIBS="+own)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "hooks in time: TRUE \ncdsw " {
		t.Fatalf("%v: %s", err, out)
	}
}

// Two processes at once: makeLibrary is what each of them runs, without the lock that one process has.
func TestRLibraryAtOnce(t *testing.T) {
	rscript, cache := requireR(t), t.TempDir()
	dirs := make([]string, 2)
	var wg sync.WaitGroup
	for i := range dirs {
		wg.Go(func() {
			var err error
			if dirs[i], err = makeLibrary(t.Context(), direct, nil, "", rscript, cache); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if dirs[0] != dirs[1] || !installed(dirs[0]) {
		t.Fatal(dirs)
	}
	onlyEntry(t, cache, filepath.Base(dirs[0]))
}

func TestRLibraryWithoutR(t *testing.T) {
	_, err := RLibrary(t.Context(), direct, "", filepath.Join(t.TempDir(), "Rscript"), t.TempDir())
	wantHint(t, err, "R is not installed")
}

func TestRLibraryWithoutJsonlite(t *testing.T) {
	requireR(t)
	// A plausible R whose INSTALL says what R says (translations off) when packages are missing.
	dir := t.TempDir()
	fake := "#!/bin/sh\n[ \"$1\" = --version ] && echo 'R version 4.2.2 (2022-10-31)' && exit\n" +
		"echo \"ERROR: dependencies 'curl', 'jsonlite' are not available for package 'cdsw'\" >&2\nexit 1\n"
	for _, name := range []string{"R", "Rscript"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fake), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cache := t.TempDir()
	_, err := RLibrary(t.Context(), direct, "", filepath.Join(dir, "Rscript"), cache)
	wantHint(t, err, "curl, jsonlite")
	onlyEntry(t, cache, "")
}

func TestRThatIsNone(t *testing.T) {
	_, err := RLibrary(t.Context(), direct, "", "/bin/true", t.TempDir())
	wantHint(t, err, "/bin/true does not tell the version of R")
}

func TestRLibraryCancelled(t *testing.T) {
	rscript, cache := requireR(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := RLibrary(ctx, direct, "", rscript, cache); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	onlyEntry(t, cache, "")
}

func wantHint(t *testing.T, err error, words string) {
	t.Helper()
	if engine.KindOf(err) != engine.Unavailable || !strings.Contains(err.Error(), words) {
		t.Fatalf("%v: want %q", err, words)
	}
	for _, p := range []string{"r-base-core", "r-cran-jsonlite", "r-cran-curl"} {
		if !strings.Contains(engine.HintOf(err), p) {
			t.Errorf("hint %q does not name %s", engine.HintOf(err), p)
		}
	}
}

// An R elsewhere that calls itself the same version gets a library of its own: what it installs is for nobody else.
func TestRLibraryIsOfOneR(t *testing.T) {
	rscript, cache := requireR(t), t.TempDir()
	real, err := RLibrary(t.Context(), direct, "", rscript, cache)
	if err != nil {
		t.Fatal(err)
	}
	project := t.TempDir()
	for _, name := range []string{"R", "Rscript"} {
		if err := os.Symlink(filepath.Join(filepath.Dir(rscript), name), filepath.Join(project, name)); err != nil {
			t.Fatal(err)
		}
	}
	other, err := RLibrary(t.Context(), direct, "", filepath.Join(project, "Rscript"), cache)
	if err != nil {
		t.Fatal(err)
	}
	if other == real || !installed(other) || !installed(real) {
		t.Errorf("the libraries are %s and %s", real, other)
	}
}
