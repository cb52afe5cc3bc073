package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The settings of a project, muster.toml, as scripts in real engines see what follows from them.

// The sample of docs/settings.md is the file of a project that runs.
func TestSampleOfSettings(t *testing.T) {
	w := newWorld(t)
	samples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(read(t, "docs/settings.md"), -1)
	if len(samples) != 1 {
		t.Fatalf("%d samples in docs/settings.md, this test knows one", len(samples))
	}
	sample := samples[0][1]
	if _, err := os.Stat("/usr/bin/python3"); err != nil { // where the sample's reader has put it
		real, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
		if err != nil {
			t.Fatal(err)
		}
		sample = strings.Replace(sample, "/usr/bin/python3", strings.TrimSpace(string(real)), 1)
	}
	sample = strings.Replace(sample, "memory = 16 ", "memory = 4.5 ", 1) // the session's 4 and half a gigabyte
	w.write("muster.toml", sample)
	w.write("worker.sh", "echo $0 $MODE; false; echo not reached\n")
	r := w.script(`
import cdsw, os, sys
print("python:", sys.executable, os.environ["CDSW_MEMORY_MB"], os.environ["DATA"])
print("project:", os.environ["CDSW_PROJECT"], os.environ["PROJECT_OWNER"], os.environ["CDSW_PROJECT_URL"].split("/")[6:])
print("alias:", os.path.samefile("/home/cdsw", os.getcwd()))
ws = [cdsw.launch_workers(1, 0.5, 0.1, kernel="shell", name="code", code="echo $MODE $CDSW_MEMORY_MB; exit 3")[0],
      cdsw.launch_workers(1, 0.5, 0.1, name="script", script="/home/cdsw/worker.sh")[0]]
for w in cdsw.await_workers(ws)["failures"]:
    print("ended:", w["name"], w["kernel"], w["status"], w["exit_code"])
w, = cdsw.launch_workers(1, 0, 1, code="1")
print("refused:", w["message"])
`).ok(t)
	r.has(t, "4000 /data/2024", "project: churn team-a ['team-a', 'churn']", "alias: True", "[code] test 100", "ended: code shell failed 3",
		"[script] "+w.project+"/worker.sh test", "ended: script shell failed 1",
		"refused: the project would have 5 GB of memory, its settings allow 4.5 GB")
	if strings.Contains(r.out, "not reached") {
		t.Errorf("-e is not among the shell's arguments: %s", r.out)
	}
	want := regexp.MustCompile(`command = "([^"]*python[^"]*)"`).FindStringSubmatch(sample)[1]
	r.has(t, "python: "+want+" ")
}

// A mistake is told by every way to begin a session, with file and line, and nothing runs.
func TestBadSettings(t *testing.T) {
	w := newWorld(t)
	before := w.count()
	w.write("ok.py", "print('it ran')\n")
	path := w.write("muster.toml", "name = \"x\"\n\n[worker]\ncpus = 2\n")
	r := w.muster("run", "ok.py")
	r.has(t, "create session: "+path+", line 4: worker.cpus is no setting; here may stand: cpu, memory, gpu", "try: correct the line")
	if r.code != 1 || strings.Contains(r.out, "it ran") {
		t.Errorf("exit code %d: %s", r.code, r.out)
	}
	r = w.muster("doctor")
	r.has(t, "NO  settings", path+", line 4: worker.cpus is no setting", "settings: try: correct the line")
	if r.code != 1 {
		t.Errorf("the doctor ended with %d", r.code)
	}
	w.write("muster.toml", "[kernels.shell]\ncommand = \"sh\"\n[kernels.lost]\ncommand = \"./lost\"\n")
	w.muster("doctor").ok(t).has(t, path+" is right", "kernel shell", "no interpreter for kernel lost: ./lost is no program that is there")
	w.nothingLeft(before)
}

// Sizes that a project says for those who ask for none; what is asked for counts.
func TestDefaultSizesOfSettings(t *testing.T) {
	w := newWorld(t)
	w.write("muster.toml", "[session]\ncpu = 2\nmemory = 0.7\n[worker]\ncpu = 0.25\nmemory = 0.3\n")
	show := "import os; print('size:', os.environ['CDSW_CPU_MILLICORES'], os.environ['CDSW_MEMORY_MB'])"
	w.muster("run", "-c", show).ok(t).has(t, "size: 2000 700")
	w.muster("run", "--memory", "0.2", "-c", show).ok(t).has(t, "size: 2000 200")
	w.write("launch.py", `
import os, subprocess
code = "import os; print('size:', os.environ['CDSW_CPU_MILLICORES'], os.environ['CDSW_MEMORY_MB'])"
subprocess.check_call(["`+binary(t)+`", "launch", "--name", "bare", "-c", code])
subprocess.check_call(["`+binary(t)+`", "launch", "--name", "asks", "--cpu", "1", "-c", code])
subprocess.check_call(["`+binary(t)+`", "await"])
`)
	w.muster("run", "launch.py").ok(t).has(t, "[bare] size: 250 300", "[asks] size: 1000 300")
}

// Scripts with the original's path in them run, and nothing is made on the host for it.
func TestHomeAlias(t *testing.T) {
	w := newWorld(t)
	w.write("muster.toml", "home_alias = true\n")
	w.write("data.txt", "from the project")
	w.write("worker.py", "print(open('/home/cdsw/data.txt').read()); open('/home/cdsw/made.txt', 'w').write('by a worker')\n")
	names := func() (list []string) {
		entries, _ := os.ReadDir("/home")
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	before := names()
	w.write("session.py", `
import cdsw, os
print("home:", sorted(os.listdir("/home")))
print("same:", os.path.samefile("/home/cdsw", "."), os.getcwd())
os.chdir("/home/cdsw")
ws = cdsw.launch_workers(1, 0.1, 0.1, script="/home/cdsw/worker.py", name="w")
assert len(cdsw.await_workers(ws)["workers"]) == 1
print("read:", open("/home/cdsw/made.txt").read())
`)
	r := w.muster("run", "/home/cdsw/session.py").ok(t)
	r.has(t, "same: True "+w.project, "[w] from the project", "read: by a worker")
	want := slices.Clone(before)
	if !slices.Contains(want, "cdsw") {
		want = append(want, "cdsw")
	}
	slices.Sort(want)
	r.has(t, "home: ['"+strings.Join(want, "', '")+"']")
	if after := names(); !slices.Equal(before, after) {
		t.Errorf("/home of the host was changed from %v to %v", before, after)
	}
	if b, err := os.ReadFile(filepath.Join(w.project, "made.txt")); err != nil || string(b) != "by a worker" {
		t.Errorf("%q, %v", b, err)
	}
}

// The second path shows no more than the first: what is hidden stays so, and what is read-only too.
func TestHomeAliasGivesNoRights(t *testing.T) {
	w := newWorld(t)
	if err := os.WriteFile(filepath.Join(w.root, "muster.toml"), []byte("home_alias = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.root, "state", "sessions", "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "MUSTER_CACHE_DIR="+filepath.Join(w.root, "cache"))
	r := w.muster("run", "--project", w.root, "-c", `
import os
for base in (os.getcwd(), "/home/cdsw"):
    print("seen:", os.listdir(base + "/state"))
    try:
        open(base + "/cache/mine", "w")
        print("written:", base)
    except OSError as e:
        print("refused:", e.strerror)
`).ok(t)
	if strings.Count(r.out, "seen: []") != 2 || strings.Count(r.out, "refused: Read-only file system") != 2 {
		t.Errorf("stdout: %s\nstderr: %s", r.out, r.err)
	}
}

func TestHomeAliasOnThePlainRung(t *testing.T) {
	w := makeWorld(t)
	w.write("muster.toml", "home_alias = true\n")
	w.write("a.py", "import time; print('it runs')\n")
	r := w.muster("run", "--rung", "plain", "/home/cdsw/a.py").ok(t)
	r.has(t, "it runs", "the home alias of muster.toml needs isolated engines, and here they are plain processes: /home/cdsw does not show the project")
}

// The project's limits hold over its sessions, and are told in the console.
func TestLimitsOfSettings(t *testing.T) {
	w := newWorld(t)
	w.write("muster.toml", "[limits]\nworkers = 3\n")
	w.server()
	w.write("first.py", `
import cdsw
ws = cdsw.launch_workers(2, 0.1, 0.1, code="import time; time.sleep(1000)")
print("launched", len([w for w in ws if "id" in w]), flush=True)
input()
cdsw.stop_workers(ws)
cdsw.await_workers(ws)
print("stopped", flush=True)
input()
`)
	cmd := w.cmd("run", "first.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	first := w.begin(cmd)
	first.await("launched 2")
	const launch = `
import cdsw
ws = cdsw.launch_workers(2, 0.1, 0.1, code="1")
print("accepted:", ["id" in w for w in ws])
cdsw.await_workers([w for w in ws if "id" in w])
`
	r := w.script(launch).ok(t)
	r.has(t, "accepted: [False, False]", "2 workers refused: the project would have 4 workers, its settings allow 3")
	in.Write([]byte("\n"))
	first.await("stopped")
	w.script(launch).ok(t).has(t, "accepted: [True, True]")
	in.Write([]byte("\n"))
	first.wait()
}

// Logs of a project's ended sessions go when they are old, and only those, also if another server wrote them.
func TestLogsOfSettings(t *testing.T) {
	w := newWorld(t)
	sessions := func() (list []string) {
		entries, err := os.ReadDir(filepath.Join(w.root, "state", "sessions"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	first := w.server()
	w.muster("run", "-c", "print('old')").ok(t)
	old := sessions()
	w.muster("run", "-c", "print('young')").ok(t)
	both := sessions()
	elsewhere := w.cmd("run", "--project", w.root, "-c", "print('of another project')")
	w.finish(elsewhere, 4*deadline).ok(t)
	all := sessions()
	if len(old) != 1 || len(both) != 2 || len(all) != 3 {
		t.Fatalf("the sessions' folders are %v, %v, %v", old, both, all)
	}
	long := time.Now().Add(-8 * 24 * time.Hour)
	for _, id := range all {
		if slices.Contains(both, id) && !slices.Contains(old, id) {
			continue
		}
		filepath.WalkDir(filepath.Join(w.root, "state", "sessions", id), func(path string, _ os.DirEntry, _ error) error {
			return os.Chtimes(path, long, long)
		})
	}
	first.cmd.Process.Signal(os.Interrupt)
	first.wait()
	w.server()
	w.write("muster.toml", "[logs]\ndays = 7\n")
	w.muster("run", "-c", "print('last')").ok(t)
	until(t, "the old log is gone", func() bool { return !slices.Contains(sessions(), old[0]) })
	if left := sessions(); len(left) != 3 {
		t.Errorf("%d folders are left: %v", len(left), left)
	}
}

// A project's hard setting caps its engines on a server that shares.
func TestHardCPUOfSettings(t *testing.T) {
	w := newWorld(t)
	w.write("muster.toml", "[limits]\nhard_cpu = true\n[worker]\ncpu = 0.3\n")
	r := w.script(`
import cdsw
ws = cdsw.launch_workers(n=1, cpu=0, memory=0.2, name="w", code="""
import time
w, c = time.time(), time.process_time()
while time.time() < w + 3: pass
print("share", (time.process_time() - c) / (time.time() - w))
""")
assert not cdsw.await_workers(ws)["failures"]
`).ok(t)
	m := regexp.MustCompile(`share ([\d.]+)`).FindStringSubmatch(r.out)
	share, err := strconv.ParseFloat(m[1], 64)
	if err != nil || share > 0.35 {
		t.Errorf("got %s of a core, asked for 0.3", m[1])
	}
}

// A process of the user's that is a session has the project's settings for its workers.
func TestSettingsOfAnAttachedSession(t *testing.T) {
	w := newWorld(t)
	w.write("muster.toml", "name = \"of notebooks\"\nhome_alias = true\n[environment]\nMODE = \"test\"\n[kernels.shell]\ncommand = \"bash\"\nendings = [\".sh\"]\n")
	w.write("worker.sh", "echo $MODE $CDSW_PROJECT > /home/cdsw/seen\n")
	w.server()
	b := w.outside("python3", "notebook.py", `
attach("notebook")
import cdsw
print("project", os.environ["CDSW_PROJECT"], "MODE" in os.environ)
done = cdsw.await_workers(cdsw.launch_workers(1, cpu=0.2, memory=0.2, script="/home/cdsw/worker.sh"))
print("ended", len(done["workers"]), open("seen").read())
`)
	b.await("project of-notebooks False")
	b.await("ended 1 test of-notebooks")
	b.wait()
}

// A mistake in the settings is told where the call was made, also in a process outside.
func TestBadSettingsOfAnAttachedSession(t *testing.T) {
	w := newWorld(t)
	path := w.write("muster.toml", "name = 7\n")
	w.server()
	cmd := exec.Command("python3", "-c", "import cdsw; cdsw.launch_workers(1, 0.1, 0.1, code='1')")
	cmd.Dir = w.project
	cmd.Env = append(w.env, "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"), "PYTHONPATH="+filepath.Join(repo(t), "clients", "python"))
	r := w.finish(cmd, 4*deadline)
	r.has(t, "could not become a Muster session", path+", line 1: name must be a name, not 7", "correct the line")
	if r.code == 0 {
		t.Errorf("stdout: %s", r.out)
	}
}
