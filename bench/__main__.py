"""Measures Muster's goals, and its peers at the same point of the same work; prints tables and keeps the raw numbers.

python3 -m bench [--only NAME ...] [--runs N] [--json FILE]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from bench import cases, clock, machine, rows, store, table, world


def main():
    options = _options()
    if options.list:
        for c in cases.table():
            print("%-36s %s" % (c.name, c.what))
        return 0
    chosen = [c for c in cases.chosen(options.only) if c.tiny or not options.tiny]
    results = store.read(options.json)["results"] if options.update and os.path.exists(options.json) else {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a case that runs is ended in order
    report = {"machine": machine.facts(), "versions": machine.versions(), "results": results}
    for c in chosen:
        result = results[c.name] = _measure(c, options)
        print("%-36s %s" % (c.name, _in_short(result)), flush=True)
        report["made"] = time.strftime("%Y-%m-%d %H:%M:%S %z")
        store.write(options.json, report)  # after each: who ends it half-way has the first half
    _show(report)
    print("\nraw numbers: %s" % options.json)
    return 1 if any("failed" in results[c.name] for c in chosen) else 0


def _options():
    p = argparse.ArgumentParser(prog="python3 -m bench", description=__doc__.split("\n")[0])
    p.add_argument(
        "--only",
        nargs="*",
        default=[],
        metavar="NAME",
        help="only these cases: names, beginnings such as launch or peer/ray, or patterns with *",
    )
    p.add_argument(
        "--runs", type=int, default=0, metavar="N", help="how often each is done (default: what the table of cases says)"
    )
    p.add_argument(
        "--size", type=int, default=0, metavar="N", help="how many workers, or megabytes, in cases that have such a number"
    )
    p.add_argument(
        "--json",
        default=store.LAST,
        metavar="FILE",
        help="where the raw numbers go (default: %s)" % os.path.relpath(store.LAST, world.REPOSITORY),
    )
    p.add_argument(
        "--update", action="store_true", help="keep what FILE has of cases that are not run now; each says when it was measured"
    )
    p.add_argument("--tiny", action="store_true", help="each case once and small: that all work, not how fast")
    p.add_argument("--list", action="store_true", help="show the names of all cases")
    options = p.parse_args()
    if options.runs < 0 or options.size < 0:
        p.error("--runs and --size are counts: they cannot be below 0")
    return options


def _measure(case, options):
    """Run a case in a process of its own, and return what it measured, or why it could not be."""
    runs = options.runs or (1 if options.tiny else case.runs)
    size = options.size or (case.tiny_size if options.tiny else 0)
    began, steal = time.strftime("%Y-%m-%d %H:%M:%S %z"), clock.Steal()
    start = clock.now()
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        out = os.path.join(folder, "result.json")
        command = [sys.executable, "-m", "bench.probe", case.name, "--runs", str(runs), "--size", str(size), "--out", out]
        env = dict(world.environment(), PYTHONPATH=world.REPOSITORY)
        if options.tiny:
            env[clock.HURRY] = "1"
        with tempfile.TemporaryFile(dir=folder) as said:
            code = _run(command, env, said, case.limit)
            said.seek(0)
            text = said.read().decode(errors="replace")
        result = {"failed": "%s\n%s" % (code, text[-4000:])}
        if code == 0:
            with open(out) as f:
                result = json.load(f)
    result.update(steal.since(), seconds=round(clock.now() - start, 1), measured=began, runs=runs)
    return result


def _run(command, env, said, seconds):
    """Run a command, and return its exit code, or that it did not end. Whatever ends this process ends the command too, in order."""
    p = subprocess.Popen(command, cwd=world.REPOSITORY, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        return p.wait(seconds)
    except subprocess.TimeoutExpired:
        return "did not end within %d s" % seconds
    finally:
        if p.poll() is None:
            p.terminate()  # it ends its server and removes its folders
            try:
                p.wait(world.DEADLINE)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


def _in_short(result):
    if "missing" in result:
        return "not measured: " + result["missing"]
    if "failed" in result:
        return "FAILED\n" + result["failed"]
    parts = []
    for name, numbers in result["samples"].items():
        f = clock.figures(numbers)
        parts.append("%s %.2f (p99 %.2f, n = %d)" % (name, f["median"], f["p99"], f["count"]))
    return "; ".join(parts) + "; steal %.1f %%; %.0f s" % (100 * result["steal"], result["seconds"])


def _show(report):
    everything, results = cases.table(), report["results"]
    measured = [c for c in everything if c.name in results]
    m = report["machine"]
    print(
        "\n%s, %s cores, %s GB, Linux %s, %s, as %s, rung %s"
        % (m["cpu"], m["cores"], m["memory GB"], m["kernel"], m["system"], m["user"], m["rung"])
    )
    print()
    print("\n".join(table.lines(table.GOALS, [table.goal_cells(r) for r in rows.goals(measured, results)])))
    peers = rows.peers(measured, results, m["rung"])
    if peers:
        print()
        print("\n".join(table.lines(table.PEERS, [table.peer_cells(r) for r in peers], right=(2, 3, 4, 5))))


if __name__ == "__main__":
    sys.exit(main())
