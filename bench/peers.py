"""All peers, and how each is measured: from the call in the session's process to the moment at which the line is there.

What a peer hands back counts as its line: a value over its own channel is the fastest way that it has, faster than what it prints.
Warm pools of a peer's own are allowed, and named.
"""

import importlib.util

from bench import bare, boxes, clock, libraries, rpackages
from bench.cases import Missing
from bench.work import MARK

PEERS = libraries.PEERS + boxes.PEERS + rpackages.PEERS


def find(name):
    return next(p for p in PEERS if p.name == name)


def measure(peer, work, runs):
    """Call a peer runs times; a bare interpreter takes turns with it."""
    p = find(peer)
    if p.how is None:  # clocked in a process of R
        return {"samples": rpackages.measure(p, runs), "facts": {"note": p.note()}}
    argv = bare.command(work)
    if p.package and importlib.util.find_spec(p.package) is None:
        raise Missing("%s is not installed; run: bench/setup" % p.package)
    lines, alone = [], []
    with p.how(work) as once:
        before = 1 if p.slow else 2  # calls that make what the peer makes once
        for i in range(before + runs):
            took = bare.line(argv) if i < before + 10 else None  # ten say what there is to say
            start = clock.now()
            line, tidy = once()
            ended = clock.now()
            if line != MARK:
                raise RuntimeError("%s returned %r" % (p.title, line))
            if tidy:
                tidy()
            if i >= before:
                lines.append(clock.ms(ended - start))
                if took is not None:
                    alone.append(clock.ms(took))
    return {"samples": {"launch": lines, "bare": alone}, "facts": {"note": p.note()}}
