package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// probe is a worker that prints everything that a process can find out about itself, as far as it is not another thing for each
// worker (its id, address, numbers of processes).
const probe = `
import sys
before = sorted(sys.modules)
import json, locale, os, random, resource, signal, socket, stat, subprocess, threading, time
def status(*names):
    with open("/proc/self/status") as f:
        return {k: v.split() for k, _, v in (l.partition(":") for l in f) if k in names}
def kind(fd):
    try: return stat.filemode(os.fstat(fd).st_mode)
    except OSError: return None
me = {os.environ["CDSW_ENGINE_ID"]: "ID", os.environ["CDSW_IP_ADDRESS"]: "IP"}
def general(text):
    for k, v in me.items(): text = text.replace(k, v)
    return text
def mounts():
    with open("/proc/self/mountinfo") as f:
        return sorted(general(l.split()[4] + " " + l.split()[5] + " " + l.partition(" - ")[2].split()[0]) for l in f)
facts = dict(
    environ={k: general(v) for k, v in os.environ.items()},
    printenv=sorted(general(l) for l in subprocess.run(["env"], stdout=-1, text=True).stdout.splitlines() if not l.startswith(("_=", "SHLVL="))),
    argv=sys.argv, path=sys.path, flags=str(sys.flags), cwd=os.getcwd(), main=sorted(sys.modules["__main__"].__dict__),
    files={fd: kind(fd) for fd in range(256) if kind(fd)}, umask=os.umask(0o22),
    limits={n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")},
    status=status("Umask", "Uid", "Gid", "Groups", "Threads", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
                  "NoNewPrivs", "Seccomp", "Cpus_allowed"),
    signals={int(s): str(signal.getsignal(s)) for s in signal.Signals if s not in (9, 19)},
    leader=[os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), os.getppid()], nice=os.nice(0),
    locale=[locale.getlocale(), locale.getpreferredencoding(), sys.stdout.encoding, time.tzname],
    oom=open("/proc/self/oom_score_adj").read(), mounts=mounts(), host=general(socket.gethostname()), hosts=general(open("/etc/hosts").read()),
    groups=sorted(general(l.split(":", 1)[1]) for l in open("/proc/self/cgroup")), threads=threading.active_count(),
    shm=os.statvfs("/dev/shm").f_blocks, private=sorted(os.listdir("/dev/muster")), tmp=os.listdir("/tmp"), flush=sys.stdout.write_through,
    devices={n: [f.st_mode, f.st_rdev, f.st_uid, f.st_gid] for n in sorted(os.listdir("/dev")) for f in [os.stat("/dev/" + n)] if n not in ("fd", "stdin", "stdout", "stderr")},
    hooks=[str(sys.excepthook), len(sys.path_hooks)],
)
print(json.dumps({"facts": facts, "modules": before, "command": open("/proc/self/cmdline").read().split("\0"), "draw": random.random()}))
`

// probes are those of a worker that was started ahead, of one that was forked ahead, and of one that was not.
const probes = `
import cdsw, json, time
found = {}
for i in range(200):
    w = cdsw.launch_workers(1, %s)[0]
    cdsw.await_workers(w["id"], wait_for_completion=True)
    line = json.loads(cdsw.worker_logs(w["id"]).splitlines()[-1])
    found["ahead" if "wait" in line["command"] else "forked" if "fork" in line["command"] else "cold"] = line
    if len(found) == 3 or i > 50 and "cold" in found and "forked" in found:
        break
    time.sleep(0.1)
print("PROBED " + json.dumps(found))
`

// newAheadWorld is one with engines that are started ahead, whatever the suite is run with.
func newAheadWorld(t *testing.T) *world {
	w := newWorld(t)
	w.env = append(w.env, "MUSTER_AHEAD=on")
	return w
}

// One that was started ahead finds what one finds that was not: only what docs/design.md names is another thing.
func TestAheadIsAsIfItWereNot(t *testing.T) {
	for name, call := range map[string]string{
		"code":   `cpu=0.5, memory=0.3, code=open("probe.py").read(), env={"SAID": "yes=\u00e9", "EMPTY": ""}`,
		"script": `cpu=2, memory=1, script="probe.py", name="named"`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.write("probe.py", probe)
			found := probed(t, w, call)
			cold := found["cold"]
			for _, how := range []string{"ahead", "forked"} {
				other, there := found[how]
				if !there { // engines of this kind were all forked
					continue
				}
				for _, k := range slices.Sorted(maps.Keys(cold.Facts)) {
					if how == "forked" && k == "mounts" { // of the user namespace: docs/design.md
						continue
					}
					if !reflect.DeepEqual(cold.Facts[k], other.Facts[k]) {
						t.Errorf("%s\ncold:   %v\n%-6s: %v", k, cold.Facts[k], how, other.Facts[k])
					}
				}
				var more []string
				for _, m := range other.Modules {
					if !slices.Contains(cold.Modules, m) {
						more = append(more, m)
					}
				}
				t.Logf("%s: imported already: %s", how, strings.Join(more, " "))
				if len(more) > 30 {
					t.Errorf("%s: %d modules are imported already", how, len(more))
				}
			}
		})
	}
}

type probedWorker struct {
	Facts   map[string]any
	Modules []string
	Draw    float64
}

func probed(t *testing.T, w *world, call string) (found map[string]probedWorker) {
	t.Helper()
	w.write("session.py", fmt.Sprintf(probes, call))
	cmd := w.cmd("run", "session.py")
	cmd.Env = append(cmd.Env, "MUSTER_AHEAD=random")
	out := w.finish(cmd, 4*deadline).ok(t).out
	_, line, _ := strings.Cut(out, "PROBED ")
	line, _, _ = strings.Cut(line, "\n")
	if err := json.Unmarshal([]byte(line), &found); err != nil {
		t.Fatalf("%v: %s", err, tail(out))
	}
	if _, forked := found["forked"]; !forked || len(found) < 2 {
		t.Fatalf("of two hundred workers all were forked, or none was: %s", tail(line))
	}
	return found
}

// The other languages, each as far as its workers can tell: arguments, variables, where errors lead.
func TestAheadInOtherLanguages(t *testing.T) {
	requireR(t)
	for name, c := range map[string]struct{ file, source, mark string }{
		"r": {"w.R", `cat("ARGS", commandArgs(), "\nSAID", Sys.getenv("SAID"), Sys.getenv("CDSW_CPU_MILLICORES"), "\n")
words <- readBin("/proc/self/cmdline", "raw", 4096)
words[words == 0] <- charToRaw(" ")
cat("COMMAND", rawToChar(words), "\n")
stop("no luck")
`, "/dev/muster/work"},
		"scala": {"w.scala", `println("ARGS " + args.mkString(" ") + "\nSAID " + sys.env("SAID") + " " + sys.env("CDSW_CPU_MILLICORES"))
println("COMMAND " + scala.io.Source.fromFile("/proc/self/cmdline").mkString.replace("\u0000", " "))
sys.error("no luck")
`, "ahead.scala"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.write(c.file, c.source)
			w.write("session.py", fmt.Sprintf(`
import cdsw, json, re, time
found = {}
for i in range(60):
    w = cdsw.launch_workers(1, cpu=0.5, memory=1, script=%q, env={"SAID": "yes=\u00e9 \"q\""})[0]
    failed = cdsw.await_workers(w["id"], wait_for_completion=True)["failures"]
    out = cdsw.worker_logs(w["id"], stream="stdout")
    err = [l for l in cdsw.worker_logs(w["id"], stream="stderr").splitlines() if "no luck" in l]
    args, said, command = re.match("ARGS (.*)\nSAID (.*)\nCOMMAND (.*)\n", out).groups()
    found["ahead" if %q in command else "cold"] = [args, said.strip(), err, failed[0]["exit_code"]]
    if len(found) == 2:
        break
    time.sleep(0.5)
print("FOUND " + json.dumps(found))
`, c.file, c.mark))
			cmd := w.cmd("run", "session.py")
			cmd.Env = append(cmd.Env, "MUSTER_AHEAD=random")
			out := w.finish(cmd, 8*deadline).ok(t).out
			_, line, _ := strings.Cut(out, "FOUND ")
			line, _, _ = strings.Cut(line, "\n")
			var found map[string][]any
			if err := json.Unmarshal([]byte(line), &found); err != nil {
				t.Fatalf("%v: %s", err, tail(out))
			}
			if len(found) != 2 || !reflect.DeepEqual(found["cold"], found["ahead"]) {
				t.Errorf("cold:  %v\nahead: %v", found["cold"], found["ahead"])
			}
			if said := found["cold"][1]; said != "yes=é \"q\" 500" {
				t.Errorf("said: %q", said)
			}
		})
	}
}

// A script that R has not read to its end when it has had enough ends as it says, however much is left of it.
func TestAheadLongScriptEndsEarly(t *testing.T) {
	requireR(t)
	w := newAheadWorld(t)
	w.write("w.R", "cat('enough\\n'); quit(status = 3)\n"+strings.Repeat("# "+strings.Repeat("x", 77)+"\n", 5000))
	w.write("session.py", `
import cdsw, time
for i in range(6):
    w = cdsw.launch_workers(1, cpu=1, memory=1, script="w.R")[0]
    failed = cdsw.await_workers(w["id"], wait_for_completion=True)["failures"]
    print("ENDED", failed[0]["exit_code"], cdsw.worker_logs(w["id"], stream="stdout").split())
    time.sleep(0.7)
`)
	out := w.finish(w.cmd("run", "session.py"), 8*deadline).ok(t).out
	if n := strings.Count(out, "ENDED 3 ['enough']"); n != 6 {
		t.Errorf("%d of 6 ended as they say: %s", n, tail(out))
	}
}
