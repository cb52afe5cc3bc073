"""Where the time of one launch goes: the way of a worker that was started ahead, from the call to its first line, step by step.

    python3 -m bench.steps [--runs N] [--recorder perf|strace] [--json FILE]     as root, with muster in MUSTER_BIN or bin/muster

A server, and a process that is a session and launches one worker after the other, are recorded: their system calls with times. A step
ends with the call by which the next process, or the disk, has it. Figures are milliseconds; "since" is the median since the call.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from bench import recording

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARK = "first line"

RECORDS = ("before", "server", "pread64")  # the database's first read
STEPS = [  # what has happened, and the call that tells: whose, which, and which of them (see find)
    ("the client has sent the request", "client", ("sendto",), RECORDS),
    ("the server has read it", "server", ("read",), RECORDS),
    ("it is checked, has room, seats and a command", "server", ("pread64",), "begin"),
    ("the launch is on record", "server", ("pwrite64",), ("before", "server", "write")),
    ("the server has answered", "server", ("write",), "same descriptor"),
    ("the work's environment and files are made", "server", ("read", "write"), "begin"),
    ("limits are set, all is written down", "server", ("write",), ("before", "server", "sendmsg")),
    ("the server has given it to the keeper", "server", ("sendmsg",), "end"),
    ("the keeper has it", "keeper", ("recvmsg",), "end"),
    ("the engine's log has begun", "keeper", ("pwrite64",), ("before", "keeper", "sendmsg")),
    ("the keeper has given it to the interpreter", "keeper", ("write",), ("before", "keeper", "sendmsg")),
    ("the interpreter has it", "interpreter", ("read",), ("before", "interpreter", "line")),
    ("the interpreter has compiled and printed", "interpreter", ("write",), "line"),
    ("the keeper has read the line", "keeper", ("read",), "line"),
    ("the line is in the console's files", "keeper", ("pwrite64",), ("before", "keeper", "sendmsg")),
    ("the server hears that there is something", "server", ("recvmsg",), "end"),
    ("the server has read it from the files", "server", ("pread64",), ("before", "server", "write")),
    ("the server has sent it", "server", ("write",), "end"),
    ("the client has received it", "client", ("recvfrom",), "end"),
]


class Console:
    """Takes what is written to standard output, and the time at which the mark came."""

    def __init__(self, clock):
        self.came, self.at, self.clock = threading.Event(), 0.0, clock

    def write(self, text):
        if MARK in text:
            self.at = self.clock()
            self.came.set()
        return len(text)

    def flush(self):
        pass


def session(runs, clock):
    """Be the session: launch on the word, and tell when each launch began, was answered, and when its line came."""
    said, console = sys.stdout, Console(clock)
    sys.stdout = console
    import cdsw

    def launch():
        console.came.clear()
        begin = clock()
        workers = cdsw.launch_workers(1, cpu=1, memory=1, code="print('%s')" % MARK)
        answered = clock()
        if not console.came.wait(60):
            sys.exit("no line came from %r" % workers)
        line = console.at
        cdsw.await_workers(workers)
        return begin, answered, line

    for _ in range(3):
        launch()
        time.sleep(0.6)
    print("ready", file=said, flush=True)
    sys.stdin.readline()
    all_launches = []
    for _ in range(runs):
        all_launches.append(launch())
        time.sleep(0.6)  # in which another one comes to wait
    print(json.dumps(all_launches), file=said, flush=True)
    sys.stdin.readline()


def record(runs, wanted):
    """Return the recorder's name, and the calls and the launches of a session that it has recorded."""
    folder = tempfile.mkdtemp(prefix="muster-steps-")
    muster = os.environ.get("MUSTER_BIN", os.path.join(ROOT, "bin", "muster"))
    project = os.path.join(folder, "project")
    os.mkdir(project)
    env = dict(os.environ, MUSTER_BIN=muster, MUSTER_STATE_DIR=os.path.join(folder, "state"), MUSTER_RUNTIME_DIR=os.path.join(folder, "run"),
               MUSTER_AHEAD=os.environ.get("MUSTER_AHEAD", "on"), PYTHONPATH=os.pathsep.join([os.path.join(ROOT, "clients", "python"), ROOT]))
    how = recording.recorder(wanted, folder)
    server = subprocess.Popen([muster, "up", "--web", "none"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while subprocess.run([muster, "ps"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            if server.poll() is not None:
                sys.exit("steps: the server has ended; see: %s up" % muster)
            time.sleep(0.05)
        child = subprocess.Popen([sys.executable, "-m", "bench.steps", "--session", how.clock, "--runs", str(runs)], env=env, cwd=project,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
        if child.stdout.readline() != "ready\n":
            sys.exit("steps: the session could not launch")
        how.start(child.pid, server.pid)
        print("", file=child.stdin, flush=True)
        launches = json.loads(child.stdout.readline())
        how.stop()
        child.stdin.close()
        child.wait()
        return how.name, how.calls(), launches
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def way(calls, begin, line):
    """Return when each step of one launch was over; None where its call was not seen."""
    calls = [c for c in calls if begin < c.end <= line and c.result > 0]
    at, times, request = begin, [], None
    for what, role, names, which in STEPS:
        call = find(calls, at, role, names, which, request)
        times.append(call and (call.begin if which == "begin" else call.end))
        at = times[-1] or at
        if what == "the server has read it" and call:
            request = call.fd
    return times


def find(calls, after, role, names, which, request):
    """Return the call that ends a step: the first after the last step, or, of those before another one of somebody's, the last."""
    mine = [c for c in calls if c.role == role and c.name in names and c.end > after]
    if which == "line":
        mine = [c for c in mine if is_line(c)]
    elif which == "same descriptor":
        mine = [c for c in mine if c.fd == request]
    elif which == "begin":
        mine = [c for c in mine if c.begin > after]
    elif which != "end":
        _, other, name = which
        limit = next((c.begin for c in calls if c.role == other and c.begin > after and (is_line(c) if name == "line" else c.name == name)), after)
        mine = [c for c in mine if c.end <= limit][-1:]
    return mine[0] if mine else None


def is_line(call):
    """Tell whether a call read or wrote the line, with its end or without."""
    return call.result in (len(MARK), len(MARK) + 1) and call.name in ("read", "write")


def table(calls, launches):
    """Return the rows: what, its own time, the median of the time since the call, and how often it was seen."""
    calls = sorted((c for c in calls if c.end is not None), key=lambda c: c.end)
    ways = [[begin] + way(calls, begin, line) + [line] for begin, _, line in launches]
    rows = []
    for i, what in enumerate([s[0] for s in STEPS] + ["the client's program has it"]):
        own, since = [], []
        for w in ways:
            before = next(t for t in reversed(w[: i + 1]) if t is not None)
            if w[i + 1] is not None:
                own.append((w[i + 1] - before) * 1000)
                since.append((w[i + 1] - w[0]) * 1000)
        rows.append({"step": what, "count": len(own), "median": statistics.median(own) if own else None,
                     "least": min(own) if own else None, "p90": sorted(own)[int(len(own) * 0.9)] if own else None, "since": statistics.median(since) if since else None})
    return rows


def machine():
    model = platform.machine()
    with open("/proc/cpuinfo") as f:
        model = next((l.split(":")[1].strip() for l in f if l.startswith("model name")), model)
    return "%s, %d cores, Linux %s, %s" % (model, os.cpu_count(), platform.release().split("-")[0], time.strftime("%d %B %Y").lstrip("0"))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--runs", type=int, default=30)
    p.add_argument("--recorder", choices=["perf", "strace", "any"], default="any")
    p.add_argument("--json")
    p.add_argument("--session", choices=["monotonic", "time"], help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.session:
        return session(options.runs, getattr(time, options.session))
    name, calls, launches = record(options.runs, options.recorder)
    rows = table(calls, launches)
    lines, answers = ([(end - begin) * 1000 for begin, end in zip(*ends)] for ends in (
        ([l[0] for l in launches], [l[2] for l in launches]), ([l[0] for l in launches], [l[1] for l in launches])))
    print("%s; recorded by %s, %d launches, load %.1f" % (machine(), name, len(launches), os.getloadavg()[0]))
    print("%-46s %8s %8s %8s %8s %6s" % ("milliseconds", "least", "median", "p90", "since", "seen"))
    for r in rows:
        if r["count"]:
            print("%-46s %8.3f %8.3f %8.3f %8.3f %6d" % (r["step"], r["least"], r["median"], r["p90"], r["since"], r["count"]))
        else:
            print("%-46s %44d" % (r["step"], 0))
    print("%-46s %8.3f %8.3f" % ("together", *(sum(r[k] for r in rows if r["count"]) for k in ("least", "median"))))
    print("from the call to the line: least %.2f, median %.2f, p90 %.2f; the call was answered after %.2f" % (
        min(lines), statistics.median(lines), sorted(lines)[int(len(lines) * 0.9)], statistics.median(answers)))
    if options.json:
        with open(options.json, "w") as f:
            json.dump({"machine": machine(), "recorder": name, "rows": rows, "launches": launches}, f, indent=1)


if __name__ == "__main__":
    main()
