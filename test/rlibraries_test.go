package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where R finds packages in engines: ours are always there, and all else is as in a plain Rscript.

var rRungs = map[string][]string{"root": nil, "plain": {"--rung", "plain"}}

// onRungs runs a test on both rungs, in a world of its own each.
func onRungs(t *testing.T, test func(w *world, flags []string)) {
	requireR(t)
	for name, flags := range rRungs {
		t.Run(name, func(t *testing.T) {
			if name == "root" {
				requireRoot(t)
			}
			test(makeWorld(t), flags)
		})
	}
}

func (w *world) folder(name string) string {
	w.t.Helper()
	path := filepath.Join(w.project, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// sourcePackage makes NAME.tar.gz in the project.
func (w *world) sourcePackage(name string) {
	w.t.Helper()
	w.folder(name + "/R")
	w.write(name+"/DESCRIPTION", "Package: "+name+"\nVersion: 1.0\nTitle: T\nDescription: D.\nLicense: GPL-3\nAuthor: A\nMaintainer: A <a@example.org>\n")
	w.write(name+"/NAMESPACE", "export(answer)\n")
	w.write(name+"/R/answer.R", "answer <- function() 42\n")
	tar := exec.Command("tar", "czf", name+".tar.gz", name)
	tar.Dir = w.project
	if out, err := tar.CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
}

// install.packages() puts a package where it does in a plain Rscript, and library() finds it there.
func TestPackagesInstalledInR(t *testing.T) {
	onRungs(t, func(w *world, flags []string) {
		const script = `
install.packages("NAME.tar.gz", repos = NULL, type = "source", quiet = TRUE)
cat(NAME::answer(), "in", dirname(find.package("NAME")), "\n")
`
		want := "42 in " + w.folder("mine")
		w.env = append(w.env, "R_LIBS_USER="+w.folder("mine"))
		for _, name := range []string{"byplain", "bysession", "byworker"} {
			w.sourcePackage(name)
			w.write(name+".R", strings.ReplaceAll(script, "NAME", name))
		}
		w.finish(w.plain("Rscript", "byplain.R"), 2*deadline).ok(w.t).has(w.t, want)
		w.write("session.R", `
source("bysession.R")
done <- await.workers(launch.workers(1, 0.2, 0.5, name = "w", script = "byworker.R"))
stopifnot(length(done$failures) == 0)
`)
		r := w.muster(append(append([]string{"run"}, flags...), "session.R")...).ok(w.t)
		r.has(w.t, "[w] "+want)
		if !strings.Contains("\n"+r.out, "\n"+want) {
			w.t.Errorf("the session's is elsewhere: %s", r.out)
		}
	})
}

// As renv does it: nothing but the project's library and R's own is left.
const emptiesLibraries = `
local({
  unlockBinding(".Library.site", baseenv())
  assign(".Library.site", character(), envir = baseenv())
  .libPaths("mine")
})
`

// A project's own settings of R hide neither package, nor do ours change what they say.
func TestProjectsRLibrariesHideNothing(t *testing.T) {
	for name, c := range map[string]struct{ file, content, after string }{
		"Renviron":     {".Renviron", "R_LIBS=mine\n", ""},
		"Rprofile":     {".Rprofile", ".libPaths('mine')\n", ""},
		"without site": {".Rprofile", ".libPaths('mine', include.site = FALSE)\n", ""},
		"renv":         {".Rprofile", emptiesLibraries, ""},
		"script":       {"unused", "", ".libPaths('mine')\n"},
		"script, renv": {"unused", "", emptiesLibraries},
	} {
		t.Run(name, func(t *testing.T) {
			onRungs(t, func(w *world, flags []string) {
				w.folder("mine")
				w.write(c.file, c.content)
				w.write("looks.R", c.after+`
stopifnot(identical(environmentName(environment(socketConnection)), "cdsw"))
library(cdsw)
library(cml)
cat("first:", basename(.libPaths()[1L]), "\n")
`)
				w.write("session.R", `source("looks.R")
done <- await_workers(cml::launch_workers(1, 0.2, 0.5, name = "w", script = "looks.R"))
stopifnot(length(done$failures) == 0)
cl <- parallel::makePSOCKcluster(1L)
cat("child:", unlist(parallel::clusterEvalQ(cl, {
  library(cml)
  "package:cdsw" %in% search()
})), "\n")
parallel::stopCluster(cl)
`)
				r := w.muster(append(append([]string{"run"}, flags...), "session.R")...).ok(w.t)
				r.has(w.t, "first: mine \n", "[w] first: mine \n", "child: TRUE \n")
				if strings.Contains(r.err, "arning") {
					w.t.Errorf("R warns: %s", r.err)
				}
			})
		})
	}
}

// The caller's own R_PROFILE is read, in the session, its workers and the R processes that they start; a file with an error
// hides nothing from an R that goes on.
func TestCallersRProfile(t *testing.T) {
	onRungs(t, func(w *world, flags []string) {
		w.env = append(w.env, "R_PROFILE="+w.write("mine.R", "cat('read\\n')\n.mine <- 1\n"))
		w.write("session.R", `
stopifnot(.mine == 1, "package:cdsw" %in% search())
done <- await.workers(launch.workers(1, 0.2, 0.5, name = "w", code = "
stopifnot(.mine == 1, 'package:cdsw' %in% search())
system2('Rscript', c('-e', shQuote('cat(\"child\", .mine, \"package:cdsw\" %in% search())')))"))
stopifnot(length(done$failures) == 0)
`)
		r := w.muster(append(append([]string{"run"}, flags...), "session.R")...).ok(w.t)
		if got := strings.Count("\n"+r.out, "\nread\n") + strings.Count(r.out, "[w] read\n"); got != 3 {
			w.t.Errorf("read %d times: %s", got, r.out)
		}
		r.has(w.t, "[w] child 1 TRUE")
	})
	w := newWorld(t)
	w.env = append(w.env, "R_PROFILE="+w.write("bad.R", "stop('a bad file')\n"))
	x := w.terminal(24, 100, "session", "r")
	x.has("a bad file")
	x.seesThat("there is a prompt", func(rows []string) bool { return rows[len(rows)-1] == ">" })
	x.typed("cat('there:', environmentName(environment(socketConnection)), '\\n')\r")
	x.sees("there: cdsw", ">")
	x.typed("q()\r")
	x.ends(0)
}
