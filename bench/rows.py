"""From raw numbers to what is told: each goal with its figure and whether it is reached, and each peer beside the bare interpreter.

Goals stand here and nowhere else. Pure: what was measured goes in, rows come out.
"""

import dataclasses
import statistics

from bench.clock import figures


@dataclasses.dataclass(frozen=True)
class Row:
    case: str
    what: str
    figure: str  # with its unit
    ratio: str  # of medians, Muster's over the other's; "" where there is nothing to compare with
    goal: str
    reached: str  # yes, no, or "" where it was not measured
    steal: str
    note: str


def _ms(x):
    return "%.0f ms" % x if x >= 100 else "%.1f ms" % x if x >= 10 else "%.2f ms" % x


def _spread(numbers):
    f = figures(numbers)
    return "%s (p99 %s, n = %d)" % (_ms(f["median"]), _ms(f["p99"]), f["count"])


def _median(r, name):
    return statistics.median(r["samples"][name])


def _ratio(r):
    return _median(r, "launch") / _median(r, "bare")


def _yes(reached):
    return "yes" if reached else "no"


def _short(ratio):
    return "%.3g" % ratio


def _launch(goal):
    def rows(r):
        f = r["facts"]
        pool = "pool full: %s of %s started ahead" % (f["started ahead"], f["of"])
        if f["started ahead"] is None:
            pool = "pool: cannot be seen here"
        refill = "back to back %.1f/s (%s of %s started ahead)" % (
            f["per second back to back"],
            f["of these started ahead"],
            f["back to back"],
        )
        note = "bare %s; %s; %s" % (_spread(r["samples"]["bare"]), pool, refill)
        yield None, _spread(r["samples"]["launch"]), _short(_ratio(r)), "≤ %s" % goal, _ratio(r) <= goal, note

    return rows


COLD_MS = 5


def _cold(r):
    more = _median(r, "launch") - _median(r, "bare")
    note = "bare %s" % _spread(r["samples"]["bare"])
    yield (
        None,
        "%s, %+.1f ms" % (_spread(r["samples"]["launch"]), more),
        _short(_ratio(r)),
        "≤ bare + %d ms" % COLD_MS,
        more <= COLD_MS,
        note,
    )


def _crowd(r):
    ratio = _median(r, "muster") / _median(r, "bare")
    f = r["facts"]
    note = "%d bare ones, %d at a time: %s; started ahead: %s of %d; a session's first: %s; again as soon as these have ended: %s" % (
        f["workers"],
        f["bare ones at a time"],
        _spread(r["samples"]["bare"]),
        "not known" if None in f["started ahead"] else "%d to %d" % (min(f["started ahead"]), max(f["started ahead"])),
        f["workers"],
        _ms(r["samples"]["first"][0]),
        _spread(r["samples"]["at once again"]),
    )
    yield None, _spread(r["samples"]["muster"]), _short(ratio), "≤ 0.5", ratio <= 0.5, note


def _await(r):
    yield None, _spread(r["samples"]["await"]), "", "2 ms", _median(r, "await") <= 2, "the goal is for the median"


BOUND_MB = 64


def _output(r):
    rate, tee = _median(r, "MB/s"), _median(r, "tee MB/s")
    yield (
        None,
        "%.1f MB/s (n = %d)" % (rate, len(r["samples"]["MB/s"])),
        "%s of tee's %.1f" % (_short(rate / tee), tee),
        "≥ 300 MB/s",
        rate >= 300,
        "%d MB each time, in turns with `tee`" % r["facts"]["megabytes each"],
    )
    most = {k.split()[0]: kb / 1000 for k, kb in r["facts"]["grown at most"].items()}
    text = ", ".join("%s + %.1f MB" % (k, mb) for k, mb in most.items())
    yield (
        "memory meanwhile",
        text,
        "",
        "bounded: ≤ + %d MB" % BOUND_MB,
        max(most.values()) <= BOUND_MB,
        "private memory, read every 50 ms",
    )


def _idle(r):
    f, s = r["facts"], r["samples"]
    none = f["memory"][0]
    for m in f["memory"][1:]:
        each = (m["server kB"] - none["server kB"]) / m["workers"]
        yield (
            "server memory per live worker, at %d" % m["workers"],
            "%.0f kB" % each,
            "",
            "50 kB",
            each <= 50,
            "private; %.1f MB without workers" % (none["server kB"] / 1000),
        )
        bound = 3000 + 50 * m["workers"]
        note = "%.1f MB without workers" % (none["keeper kB"] / 1000)
        yield (
            "keeper's private memory, at %d" % m["workers"],
            "%.1f MB" % (m["keeper kB"] / 1000),
            "",
            "≤ %.1f MB" % (bound / 1000),
            m["keeper kB"] <= bound,
            note,
        )
    n = f["workers"]
    yield (
        "%d idle workers: start" % n,
        _ms(s["start"][0]),
        "",
        "that they start",
        True,
        "%s; from the call until all run" % f["of them"],
    )
    yield (
        "%d idle workers: list" % n,
        _spread(s["list"]),
        "",
        "< 50 ms",
        _median(r, "list") < 50,
        "list_workers() in the session, the goal is for the median",
    )
    stopped = s["stop"][0] <= 5000 and f["processes after stop"] == 0
    yield (
        "%d idle workers: stop" % n,
        _ms(s["stop"][0]),
        "",
        "≤ 5 s",
        stopped,
        "until their last process has ended; answered after %s" % _ms(s["stop answered"][0]),
    )
    yield (
        "%d idle workers: left" % n,
        ", ".join("%d %s" % (v, k) for k, v in f["left"].items()),
        "",
        "nothing",
        not any(f["left"].values()),
        "after the end of the session",
    )


def _killed(r):
    f = figures(r["samples"]["gone"])
    remain = [v for k, v in r["facts"].items() if k.startswith("not gone")][0]
    note = "%s descendants, %d not gone; the goal is for the slowest: %s" % (
        "/".join(str(n) for n in sorted(set(r["facts"]["descendants"]))),
        remain,
        _ms(f["max"]),
    )
    yield None, _spread(r["samples"]["gone"]), "", "≤ 1 s", f["max"] <= 1000 and not remain, note


def _adopt(r):
    f = figures(r["samples"]["adopted"])
    note = "%d workers; answers again after %s; the goal is for the slowest: %s" % (
        r["facts"]["workers"],
        _spread(r["samples"]["answers"]),
        _ms(f["max"]),
    )
    yield None, _spread(r["samples"]["adopted"]), "", "≤ 2 s", f["max"] <= 2000, note
    broken = r["facts"]["broken promises"]
    lines = r["facts"]["lines checked"]
    yield (
        "output identical to the byte",
        "%d lines, %d broken promises" % (lines, len(broken)),
        "",
        "identical",
        not broken and lines > 0,
        "; ".join(broken[:2]),
    )


# Of each case of ours: what makes its rows.
GOALS = {
    "launch/python": _launch(0.3),
    "launch/numpy+pandas": _launch(0.01),
    "launch/r": _launch(0.015),
    "launch/scala": _launch(0.12),
    "cold/python": _cold,
    "cold/numpy+pandas": _cold,
    "cold/r": _cold,
    "crowd": _crowd,
    "await": _await,
    "output": _output,
    "idle": _idle,
    "killed": _killed,
    "adopt": _adopt,
}


def goals(cases, results):
    """Return the rows of all cases of ours; of those that were not measured too, with why not."""
    rows = []
    for case in cases:
        if case.name not in GOALS:
            continue
        r = results.get(case.name)
        why = _why(r)
        if why:
            rows.append(Row(case.name, case.what, "", "", "", "", "", why))
            continue
        steal = "%.1f %%" % (100 * r["steal"])
        for what, figure, ratio, goal, reached, note in GOALS[case.name](r):
            rows.append(Row(case.name, what or case.what, figure, ratio, goal, _yes(reached), steal, note))
    return rows


def _why(r):
    if r is None:
        return "not run"
    if "missing" in r:
        return "not measured: " + r["missing"]
    if "failed" in r:
        return "FAILED: " + r["failed"].strip().split("\n")[-1]
    return ""


@dataclasses.dataclass(frozen=True)
class PeerRow:
    what: str
    work: str
    median: float  # milliseconds; -1 where it was not measured
    p99: float
    count: int
    ratio: float  # over the bare interpreter of the same minute
    pool: str
    fresh: str
    apart: str
    steal: str
    note: str


_APART = {  # by rung, docs/design.md
    "root": "namespaces of its own (mount, pid, network, ipc, uts, cgroup), an address of its own, limits, a container's rights at most",
    "rootless": "the same in one user namespace; limits where control groups are delegated",
    "plain": "nothing: processes of the same user",
}


def peers(cases, results, rung="root"):
    """Return a row for each way to start a piece of work, ours among them, grouped by work and the fastest first."""
    from bench.peers import find

    rows = []
    for case in cases:
        kind, _, rest = case.name.partition("/")
        if kind == "peer":
            name, _, work = rest.partition("/")
            p = find(name)
            title, pool, fresh, apart = p.title, p.pool, "yes" if p.fresh else "no", p.apart
        elif kind in ("launch", "cold"):
            title, pool = ("Muster", "engines started ahead") if kind == "launch" else ("Muster, cold", "")
            work, fresh, apart = rest, "yes", _APART.get(rung, "rung: %s" % rung)
        else:
            continue
        r = results.get(case.name)
        why = _why(r)
        if why:
            rows.append(PeerRow(title, work, -1, -1, 0, -1, pool, fresh, apart, "", why))
            continue
        f = figures(r["samples"]["launch"])
        rows.append(
            PeerRow(
                title,
                work,
                f["median"],
                f["p99"],
                f["count"],
                _ratio(r),
                pool,
                fresh,
                apart,
                "%.1f %%" % (100 * r["steal"]),
                r["facts"].get("note", ""),
            )
        )
    works = list(dict.fromkeys(x.work for x in rows))
    return sorted(rows, key=lambda x: (works.index(x.work), x.median < 0, x.median))
