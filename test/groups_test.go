package test

import "testing"

// Runtimes and frameworks find an engine's limits where a container has them, and nothing of other engines there. What they
// find they cannot change.
func TestEnginesSeeTheirOwnLimits(t *testing.T) {
	requireRoot(t)
	w := newWorld(t)
	w.script(`
import cdsw
other = cdsw.launch_workers(n=1, cpu=0.2, memory=0.2)
w = cdsw.launch_workers(n=1, cpu=0.2, memory=0.3, name="w", env={"OTHER": other[0]["id"]}, code="""
import glob, os
file, = [f for f in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max") if os.path.exists(f)]
print("may use", round(int(open(file).read()) / 1e6), "MB")
for line in open("/proc/self/cgroup"):
    if "memory" in line or line.startswith("0::"):
        assert line.strip().endswith(":/"), line
for what, do in [("raise it", lambda: open(file, "w")), ("leave it", lambda: os.mkdir(os.path.dirname(file) + "/mine"))]:
    try:
        do()
        print("can", what)
    except OSError:
        print("cannot", what)
seen = [f for f in glob.glob("/sys/fs/cgroup/**", recursive=True) if os.environ["OTHER"] in f or "muster" in f]
print("sees of others:", seen)
""")
assert not cdsw.await_workers(w)["failures"]
`).ok(t).has(t, "[w] may use 300 MB", "[w] cannot raise it", "[w] cannot leave it", "[w] sees of others: []")
}
