"""The plot of docs/benchmarks.md: one bar for each way to start a piece of work, on a logarithmic scale. SVG, written by hand."""

import html
import math

BAR, GAP, LEFT, WIDTH, TOP = 16, 6, 300, 560, 58
TITLES = {"python": "plain Python", "numpy+pandas": "Python with numpy and pandas", "r": "R", "scala": "Scala"}
OURS, POOL, FRESH = "#c2410c", "#93a8c4", "#51698c"


def svg(peers):
    """Return the plot of the rows that rows.peers returns. What was not measured is not in it."""
    peers = [p for p in peers if p.median > 0]
    if not peers:
        raise SystemExit("bench: there is nothing to plot: no case of launch, cold or peer was measured")
    low = 10 ** math.floor(math.log10(min(p.median for p in peers)))
    high = 10 ** math.ceil(math.log10(max(p.median for p in peers)))

    def x(ms):
        return LEFT + WIDTH * (math.log10(ms) - math.log10(low)) / (math.log10(high) - math.log10(low))

    body, y, work = [], TOP, None
    for p in peers:
        if p.work != work:
            work = p.work
            y += 26
            body.append(_text(12, y, TITLES.get(work, work), "start", "bold"))
            y += 10
        colour = OURS if p.what.startswith("Muster") else POOL if p.pool else FRESH
        body.append(
            '<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (LEFT, y, max(2, x(p.median) - LEFT), BAR, colour)
        )
        body.append(_text(LEFT - 8, y + BAR - 4, p.what, "end", "bold" if colour == OURS else "normal"))
        body.append(_text(x(p.median) + 6, y + BAR - 4, _value(p.median), "start"))
        y += BAR + GAP
    axis, decade = [], low
    while decade <= high * 1.001:
        axis.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>' % (x(decade), TOP, x(decade), y))
        axis.append(_text(x(decade), y + 16, _value(decade), "middle"))
        decade *= 10
    legend = []
    for i, (colour, what) in enumerate(
        ((OURS, "Muster"), (POOL, "warm pool of its own"), (FRESH, "nothing started before the call"))
    ):
        legend.append('<rect x="%d" y="34" width="12" height="12" fill="%s"/>' % (12 + 190 * i, colour))
        legend.append(_text(30 + 190 * i, 45, what, "start"))
    head = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">'
        % (LEFT + WIDTH + 80, y + 28),
        '<rect width="100%" height="100%" fill="#fff"/>',
        _text(12, 20, "From the call to the first line: median, logarithmic scale", "start", "bold"),
    ]
    return "\n".join(head + legend + axis + body + ["</svg>", ""])


def _text(x, y, text, anchor, weight="normal"):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" font-weight="%s" fill="#222">%s</text>' % (
        x,
        y,
        anchor,
        weight,
        html.escape(text),
    )


def _value(ms):
    return "%.3g s" % (ms / 1000) if ms >= 1000 else "%.3g ms" % ms
