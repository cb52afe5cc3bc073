package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The folders on a session's PATH are its engines' live files. What the server runs of them, to learn which interpreter a
// wrapper stands for and to install the R packages, sees no process of the host and has no more rights than an engine.
func TestEnginesDoNotChooseInterpreters(t *testing.T) {
	w := newWorld(t)
	bin := filepath.Join(w.project, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"), "MUSTER_TOKEN=secret", "MUSTER_CACHE_DIR="+filepath.Join(w.root, "cache"))
	seen := filepath.Join(w.project, "seen")
	before := w.count()
	r := w.script(`
import cdsw, os
for name in ("Rscript", "R", "python2", "python2.7", "pypy", "jython"):
    with open("bin/" + name, "w") as f:
        f.write("""#!/bin/sh
{ echo "program $(basename $0) $1 $2"
grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status
for n in pid mnt net ipc uts; do readlink /proc/self/ns/$n; done
cat /proc/[0-9]*/comm
echo token $MUSTER_TOKEN
cat /proc/self/cgroup; } >> ` + seen + `
case $1 in
--version) echo R version 9.9.9;;
-c) echo nothing;;
esac
""")
    os.chmod("bin/" + name, 0o700)
for kernel in ("r", "python2"):
    (w,) = cdsw.launch_workers(1, 0.1, 0.1, kernel=kernel, code="1")
    print(kernel, "refused:", "id" not in w, w["message"])
`).ok(t)
	r.has(t, "r refused: True", "R CMD INSTALL did not install the packages cdsw and cml", "python2 refused: True", `it answered "nothing"`)
	b, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	runs := strings.Split(string(b), "program ")[1:]
	if len(runs) != 6 || !strings.HasPrefix(runs[0], "Rscript --version") || !strings.HasPrefix(runs[1], "R CMD INSTALL") ||
		!strings.HasPrefix(runs[2], "python2 -c") || !strings.HasPrefix(runs[5], "jython -c") {
		t.Fatalf("the server ran %q", runs)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		for _, want := range []string{"CapEff:\t00000000800405fb\n", "CapBnd:\t00000000800405fb\n", "Seccomp:\t2\n", "token\n", "/muster/"} {
			if !strings.Contains(run, want) {
				t.Errorf("no %q in: %s", want, run)
			}
		}
		for _, ns := range []string{"pid", "mnt", "net", "ipc", "uts"} {
			if host, err := os.Readlink("/proc/self/ns/" + ns); err != nil || strings.Contains(run, host) {
				t.Errorf("it was in the host's %s (%v): %s", host, err, run)
			}
		}
		if strings.Contains(run, "\n"+string(comm)) {
			t.Errorf("it saw this test's process: %s", run)
		}
	}
	w.nothingLeft(before)
}

// The first R engine installs our packages, in a place that engines cannot write to; other sessions find them there.
func TestFirstRInstallation(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	cache := filepath.Join(w.root, "cache")
	w.env = append(w.env, "MUSTER_CACHE_DIR="+cache)
	for range 2 {
		w.muster("run", "--kernel", "r", "-c", `cat(dirname(find.package("cdsw")), file.access(find.package("cdsw"), 2), "\n")`).ok(t).has(t, cache+"/r-", " -1 ")
	}
	entries, err := filepath.Glob(cache + "/.new-*")
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the cache: %q %v", entries, err)
	}
}
