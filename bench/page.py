"""Writes what docs/benchmarks.md says in figures from the kept numbers, so that the page and the numbers cannot differ.

python3 -m bench.page            keep build/bench.json as docs/benchmarks.json, write the tables and the plot anew
python3 -m bench.page --check    say whether page and plot are what the kept numbers make
"""

import argparse
import os
import re
import sys

from bench import cases, plot, rows, store, table, world

PAGE = os.path.join(world.REPOSITORY, "docs", "benchmarks.md")
PLOT = os.path.join(world.REPOSITORY, "docs", "benchmarks.svg")


def main():
    p = argparse.ArgumentParser(prog="python3 -m bench.page", description=__doc__.split("\n")[0])
    p.add_argument(
        "--from", dest="source", default=store.LAST, metavar="FILE", help="raw numbers to keep (default: build/bench.json)"
    )
    p.add_argument(
        "--check", action="store_true", help="change nothing; exit code 1 where page or plot are not what the kept numbers make"
    )
    options = p.parse_args()
    if not options.check:
        store.write(store.KEPT, store.read(options.source))
    stale = []
    for path, text in made(store.read(store.KEPT)).items():
        if world.read(path) == text:
            continue
        stale.append(os.path.relpath(path, world.REPOSITORY))
        if not options.check:
            with open(path, "w") as f:
                f.write(text)
    if options.check and stale:
        print(
            "bench: %s is not what docs/benchmarks.json makes; run: python3 -m bench.page --from docs/benchmarks.json"
            % " and ".join(stale),
            file=sys.stderr,
        )
        return 1
    return 0


def made(report):
    """Return the texts of page and plot by their paths."""
    everything, results = cases.table(), report["results"]
    peers = rows.peers(everything, results, report["machine"]["rung"])
    parts = {
        "machine": _machine(report),
        "goals": _markdown(table.GOALS, [table.goal_cells(r) for r in rows.goals(everything, results)]),
        "peers": _markdown(
            ("work", "how", "median", "p99", "n", "÷ bare", "warm pool", "own process", "steal", "note"),
            [table.peer_cells(r) for r in peers],
        ),
        "apart": _markdown(("what keeps the work apart", "whose"), _apart(peers)),
    }
    return {PAGE: fill(world.read(PAGE), parts), PLOT: plot.svg(peers)}


def _apart(peers):
    """Return who has what to keep work apart, what is ours first."""
    whose = {}
    for r in sorted(peers, key=lambda r: not r.what.startswith("Muster")):
        whose.setdefault(r.apart, {})[r.what] = True
    return [(apart, "; ".join(names)) for apart, names in whose.items()]


def fill(text, parts):
    """Return the text with each part between its two marks."""
    for name, part in parts.items():
        marks = re.compile(r"(<!-- %s -->\n).*?(<!-- end -->)" % name, re.DOTALL)
        if not marks.search(text):
            raise SystemExit(
                "bench: %s has no place for %r: <!-- %s --> and <!-- end --> in lines of their own" % (PAGE, name, name)
            )
        text = marks.sub(lambda m, part=part: m.group(1) + part + "\n" + m.group(2), text)
    return text


def _markdown(head, body):
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    out += ["| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in body]
    return "\n".join(out)


def _machine(report):
    m, v = report["machine"], report["versions"]
    packages = {name.lower(): version for name, version in v["python packages"].items()}
    times = [r["measured"] for r in report["results"].values()]
    shown = ["numpy", "pandas", "joblib", "ipyparallel", "distributed", "ray"]
    programs = [(k, v[k]) for k in sorted(v) if k != "python packages"]
    lines = [
        "- measured: from %s to %s" % (min(times), max(times)),
        "- machine: %s, %s cores, %s GB, %s; Linux %s, %s; as %s, rung %s"
        % (
            m["cpu"],
            m["cores"],
            m["memory GB"],
            "virtual" if m["virtual"] else "not virtual",
            m["kernel"],
            m["system"],
            m["user"],
            m["rung"],
        ),
        "- programs: %s" % "; ".join("%s: %s" % (k, says or "not there") for k, says in programs),
        "- Python packages: %s" % ", ".join("%s %s" % (n, packages.get(n, "not there")) for n in shown),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
