"""Tables in plain text, for a terminal and for a pipe alike."""


def lines(head, rows, right=()):
    """Return the lines of a table. Columns of which numbers are named by right are set to the right; the last one is not padded."""
    everything = [head, *rows]
    widths = [max(len(r[i]) for r in everything) for i in range(len(head))]
    out = []
    for r in everything:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths))]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "─" * max(len(x) for x in out))
    return out


GOALS = ("what", "figure", "ratio", "goal", "reached", "steal", "note")
PEERS = ("work", "how", "median", "p99", "n", "÷ bare", "warm pool", "own process", "steal", "note")


def goal_cells(row):
    return (row.what, row.figure, row.ratio, row.goal, row.reached, row.steal, row.note)


def peer_cells(row):
    if row.median < 0:
        return (row.work, row.what, "", "", "", "", row.pool or "none", row.fresh, "", row.note)
    return (
        row.work,
        row.what,
        number(row.median),
        number(row.p99),
        str(row.count),
        "%.3g" % row.ratio,
        row.pool or "none",
        row.fresh,
        row.steal,
        row.note,
    )


def number(ms):
    return "%.0f ms" % ms if ms >= 100 else "%.1f ms" % ms if ms >= 10 else "%.2f ms" % ms
