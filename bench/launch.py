"""From a launch to the worker's first line, clocked in the session's own process, beside what people would start by hand.

    python3 bench/launch.py [--runs N] [--only NAME ...] [--json FILE]     needs muster on the PATH or in MUSTER_BIN

The process is a session: it imports cdsw, and its workers' lines come to its own standard output, where the clock stops. Bare
interpreters are started by subprocess, and read to their first line. Both do the same work, one after the other in one run;
figures are milliseconds, the ratios are of medians.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

MARK = "first line"
WORK = {
    "python": ("python3", "print('%s')" % MARK, [sys.executable, "-c", "CODE"]),
    "numpy": ("python3", "import numpy; print('%s')" % MARK, [sys.executable, "-c", "CODE"]),
    "numpy and pandas": ("python3", "import numpy, pandas; print('%s')" % MARK, [sys.executable, "-c", "CODE"]),
    "R": ("r", "cat('%s\\n')" % MARK, ["Rscript", "-e", "CODE"]),
    "Scala": ("scala", "println(\"%s\")" % MARK, ["scala", "-nc", "-e", "CODE"]),
}
PRELOAD = {"numpy": ["numpy"], "numpy and pandas": ["numpy", "pandas"]}


class Console:
    """Takes what is written to standard output, and the time at which the mark came."""

    def __init__(self):
        self.came, self.at, self.rest = threading.Event(), 0.0, sys.__stdout__

    def write(self, text):
        if MARK in text:
            self.at = time.perf_counter()
            self.came.set()
        return len(text)

    def __getattr__(self, name):
        return getattr(self.rest, name)


def bare(argv):
    start = time.perf_counter()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    p.stdout.readline()
    took = time.perf_counter() - start
    p.wait()
    return took


def launch(console, kernel, code):
    import cdsw

    console.came.clear()
    start = time.perf_counter()
    workers = cdsw.launch_workers(1, cpu=1, memory=2, kernel=kernel, code=code)
    answered = time.perf_counter()
    if not console.came.wait(60):
        sys.exit("no line came from %r" % workers)
    line = console.at
    cdsw.await_workers(workers[0]["id"], wait_for_completion=True)
    return line - start, answered - start


def figures(seconds):
    ms = sorted(s * 1000 for s in seconds)
    return {"count": len(ms), "min": ms[0], "median": statistics.median(ms), "p90": ms[int(len(ms) * 0.9)], "p99": ms[int(len(ms) * 0.99)]}


def steal():
    with open("/proc/stat") as f:
        ticks = [int(n) for n in f.readline().split()[1:]]
    return ticks[7], sum(ticks)


def measure(name, runs, pause):
    """Return the figures of one kind of work, in a session of its own: its preloads are its project's."""
    kernel, code, argv = WORK[name]
    if shutil.which(argv[0]) is None:
        return {"missing": argv[0]}
    modules = PRELOAD.get(name, [])
    lacks = [m for m in modules if importlib.util.find_spec(m) is None]
    if lacks:
        return {"missing": " and ".join(lacks)}
    few = max(3, runs // 10) if name == "Scala" else runs
    before = steal()
    alone = [bare([code if a == "CODE" else a for a in argv]) for _ in range(few)]
    console = sys.stdout = Console()
    launches = []
    for _ in range(few + 3):
        launches.append(launch(console, kernel, code))
        time.sleep(pause)
    sys.stdout = sys.__stdout__
    after = steal()
    lines, calls = zip(*launches[3:])
    return {
        "bare": figures(alone), "muster": figures(lines), "call": figures(calls),
        "ratio": statistics.median(lines) / statistics.median(alone), "steal": (after[0] - before[0]) / max(1, after[1] - before[1]),
    }


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--runs", type=int, default=40)
    p.add_argument("--only", nargs="*", default=list(WORK))
    p.add_argument("--pause", type=float, default=0.6, help="seconds between launches, in which seats are made")
    p.add_argument("--json")
    p.add_argument("--child", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.child:
        json.dump(measure(options.child, options.runs, options.pause), sys.__stdout__)
        return
    results = {}
    for name in options.only:
        project = os.path.join(os.environ.get("TMPDIR", "/tmp"), "muster-bench-%d" % os.getpid())
        os.makedirs(project)
        try:
            if name in PRELOAD:
                with open(os.path.join(project, "muster.toml"), "w") as f:
                    f.write("preload = %s\n" % json.dumps(PRELOAD[name]))
            child = [sys.executable, os.path.abspath(__file__), "--child", name, "--runs", str(options.runs), "--pause", str(options.pause)]
            out = subprocess.run(child, cwd=project, stdout=subprocess.PIPE, check=True).stdout
        finally:
            shutil.rmtree(project)
        r = results[name] = json.loads(out.decode())
        if "missing" in r:
            print("%-18s %s is not installed" % (name, r["missing"]))
            continue
        for what in ("bare", "muster", "call"):
            print("%-18s %-7s %s" % (name, what, "  ".join("%s %8.2f" % (k, r[what][k]) for k in ("min", "median", "p90", "p99"))), flush=True)
        print("%-18s ratio   %.3f   (n = %d, steal %.1f %%)" % (name, r["ratio"], r["muster"]["count"], 100 * r["steal"]), flush=True)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
