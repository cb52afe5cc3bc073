package test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// evil makes what programs load when their environment says so, and returns such an environment and the file in which all that
// did is written down: by what, which program, in which mount namespace, with which rights.
func (w *world) evil() (env map[string]string, log string) {
	w.t.Helper()
	log, library := filepath.Join(w.project, "who"), filepath.Join(w.project, "evil.so")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-w", "-DLOG=\""+log+"\"", "-o", library, "testdata/evil.c").CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: run scripts/need gcc\n%s", err, out)
	}
	told := `$(readlink /proc/$$/exe) $(readlink /proc/$$/ns/mnt) $(awk '/^CapEff/ {c=$2} /^NoNewPrivs/ {n=$2} /^Seccomp:/ {s=$2} END {print c, n, s}' /proc/$$/status)`
	sh := w.write("evil.sh", "echo \"shell "+told+"\" >> "+log+"\n")
	py := w.write("evil.py", "open('"+log+"', 'a').write('python started\\n')\n")
	r := w.write("evil.R", "if (file.exists('"+sh+"')) system2('/bin/sh', '"+sh+"')\n")
	return map[string]string{
		"LD_PRELOAD": library, "LD_AUDIT": library, "LD_LIBRARY_PATH": w.project, "GLIBC_TUNABLES": "glibc.malloc.check=3",
		"BASH_ENV": sh, "ENV": sh, "PYTHONSTARTUP": py, "PYTHONINSPECT": "", "R_PROFILE": r, "R_PROFILE_USER": r, "PERL5OPT": "-Mevil",
		"NEWLINE": "one\nLD_PRELOAD=" + library, "EQUALS": "=a=b=", "OPENSSL_CONF": sh,
	}, log
}

// onlyEngines fails the test unless programs of engines, and nothing else, are written down.
func (w *world) onlyEngines(log string, programs ...string) {
	w.t.Helper()
	host, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		w.t.Fatal(err)
	}
	b, _ := os.ReadFile(log)
	seen := map[string]bool{}
	for _, line := range lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 6 {
			w.t.Errorf("of another form: %q", line)
			continue
		}
		program := filepath.Base(f[1])
		seen[f[0]+" "+program] = true
		rights := f[3] == "00000000800405fb" || f[3] == "00000000802405fb" && strings.HasPrefix(program, "python") // a zygote's: docs/security.md
		if f[2] == host || !rights || f[4] != "1" || f[5] != "2" {
			w.t.Errorf("with other rights than an engine's (the host's mounts are %s): %s", host, line)
		}
		if strings.HasPrefix(program, "muster") || program == "sshd" {
			w.t.Errorf("a program of ours: %s", line)
		}
	}
	told := slices.Sorted(maps.Keys(seen))
	w.t.Log(told)
	for _, p := range programs {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, p) }) {
			w.t.Errorf("%s did not load it: the test sees nothing", p)
		}
	}
}

// What a session, a worker, a project or whoever starts the server puts into an environment reaches that engine's own programs,
// and none that has more rights than they: not the server, the keeper, the init, sshd, nor what asks interpreters who they are.
func TestHostileEnvironment(t *testing.T) {
	requireR(t)
	requireSSH(t)
	w := newWorld(t)
	env, log := w.evil()
	w.env = append(w.env, "MUSTER_CACHE_DIR="+filepath.Join(w.root, "cache")) // R's packages are to be installed
	clean := slices.Clone(w.env)
	for name, value := range env {
		w.env = append(w.env, name+"="+value)
	}
	up := w.begin(w.cmd("up"))
	up.await("the server answers at")
	var toml strings.Builder
	toml.WriteString("[environment]\n")
	for name, value := range env {
		fmt.Fprintf(&toml, "%s = %q\n", name, value)
	}
	w.write("session.py", `
import cdsw, os, subprocess
evil = {k: os.environ[k] for k in ("LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV", "PYTHONSTARTUP", "R_PROFILE", "GLIBC_TUNABLES", "NEWLINE", "EQUALS")} if "LD_PRELOAD" in os.environ else {}
assert evil == {} or (evil["NEWLINE"].startswith("one\nLD_PRELOAD=") and evil["EQUALS"] == "=a=b=")
code = "import os, time; assert os.environ['EQUALS'] == '=a=b=' and os.environ['NEWLINE'].count('\\n') == 1; open('up', 'w').close(); time.sleep(1000)"
given = {k: v for k, v in zip(`+fmt.Sprintf("%q.split('|'), %q.split('|')", strings.Join(slices.Sorted(maps.Keys(env)), "|"), strings.Join(sortedValues(env), "|"))+`)}
(w,) = cdsw.launch_workers(1, cpu=0.3, memory=0.5, code=code, env=given)
cdsw.await_workers([w["id"]], wait_for_completion=False)
while not os.path.exists("up"): pass
quiet = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
got = subprocess.run(["ssh", w["ip_address"], "bash -c hostname"], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=quiet)
assert got.stdout == w["id"] + "\n", got
cdsw.stop_workers(w["id"])
if not os.path.exists("muster.toml"):
    r = cdsw.launch_workers(1, cpu=0.5, memory=0.5, kernel="r", code="cat('R ' , 'ran')", env=given)
    print(len(cdsw.await_workers(r)["workers"]), "of R")
try:
    print("launched", cdsw.launch_workers(1, 0.1, 0.1, code="1", env={"A=LD_PRELOAD": "x"}))
except ValueError as e:
    print("refused:", e)
os.remove("up")
`)
	w.muster("run", "session.py").ok(t).has(t, "1 of R", "refused: env: 'A=LD_PRELOAD'")
	w.onlyEngines(log, "preload python3", "audit python3", "preload bash", "shell ", "preload R")
	os.Remove(log)
	// The same from the project's settings, for a caller who knows nothing of it.
	w.env = clean
	w.write("muster.toml", toml.String())
	w.muster("run", "session.py").ok(t)
	w.onlyEngines(log, "preload python3", "audit python3", "preload bash")
}

func sortedValues(m map[string]string) []string {
	var values []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[k])
	}
	return values
}
