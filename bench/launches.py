"""From a launch to the worker's first line, clocked in the session's own process, beside the bare interpreter.

The process is a session: it imports cdsw, and its workers' lines come to its own standard output, where the clock stops. A bare
start and a launch take turns, so that whatever else the machine does meets both.
"""

import os

from bench import bare, clock, world
from bench.console import Console
from bench.work import CODE

KERNEL = {"python": "python3", "numpy+pandas": "python3", "r": "r", "scala": "scala"}
PRELOAD = {"numpy+pandas": 'preload = ["numpy", "pandas"]\n'}
# Seconds without launches, in which what waits is made: several times what that takes.
PAUSE = {"python": 1, "numpy+pandas": 2, "r": 1.5, "scala": 12}
# The kernel takes a network apart behind the scenes for some tenths of a second after its worker: not while a bare one is measured.
COLD_PAUSE = 0.5
FULL = 2  # as many wait at least, docs/design.md says


def warm(work, runs):
    """Launch with a pause before each, so that the pool is full; then back to back, so that it has to be filled meanwhile."""
    argv = bare.command(work)
    with Console() as console, world.session(settings=PRELOAD.get(work, "")):
        lines, calls, alone, ahead = [], [], [], []
        for i in range(runs + 2):  # the first ones make the kind known
            clock.rest(PAUSE[work])
            took = bare.line(argv)
            there = waiting()
            line, call, engine = _launch(console, KERNEL[work], CODE[work])
            if i >= 2:
                alone.append(clock.ms(took))
                lines.append(clock.ms(line))
                calls.append(clock.ms(call))
                ahead.append(None if there is None else engine in there)
        clock.rest(PAUSE[work])
        rate = _back_to_back(console, work, max(3, min(runs, 50)))
        facts = {"started ahead": _count(ahead), "of": len(ahead), **rate}
    return {"samples": {"launch": lines, "call": calls, "bare": alone}, "facts": facts}


def cold(work, runs):
    """Launch where nothing is started ahead."""
    argv = bare.command(work)
    with Console() as console, world.session(ahead=False):
        lines, calls, alone = [], [], []
        for i in range(runs + 2):
            clock.rest(COLD_PAUSE)
            took = bare.line(argv)
            line, call, _ = _launch(console, KERNEL[work], CODE[work])
            if i >= 2:
                alone.append(clock.ms(took))
                lines.append(clock.ms(line))
                calls.append(clock.ms(call))
    return {"samples": {"launch": lines, "call": calls, "bare": alone}, "facts": {}}


def _launch(console, kernel, code, until_ended=True):
    """Launch a worker. Return the seconds to its line and to the call's return, and its id."""
    import cdsw

    console.clear()
    start = clock.now()
    workers = cdsw.launch_workers(1, cpu=1, memory=2, kernel=kernel, code=code)
    answered = clock.now()
    line = console.wait()
    if until_ended:
        done = cdsw.await_workers(workers, timeout_seconds=world.DEADLINE)
        if done["failures"]:
            raise RuntimeError("a worker failed: %s" % done["failures"])
    return line - start, answered - start, workers[0]["id"]


def _back_to_back(console, work, runs):
    """Launch as soon as the line of the launch before is here. Return the rate, and how many had been started ahead."""
    ahead, start = [], clock.now()
    spent = 0.0
    for _ in range(runs):
        looked = clock.now()
        there = waiting()
        spent += clock.now() - looked  # ours, not Muster's; the pool is filled meanwhile, for some two milliseconds
        _, _, engine = _launch(console, KERNEL[work], CODE[work], until_ended=False)
        ahead.append(None if there is None else engine in there)
    took = clock.now() - start - spent
    return {"per second back to back": runs / took, "back to back": runs, "of these started ahead": _count(ahead)}


def waiting():
    """Return the ids of the engines that are there before a launch; those of the launch are among them if they were started ahead."""
    session = os.environ["CDSW_ENGINE_ID"]
    for controller in ("pids/muster", "unified/muster", "muster"):
        try:
            names = os.listdir("/sys/fs/cgroup/" + controller)
        except OSError:
            continue
        return {n.partition("-")[2] for n in names if n.startswith(session + "-")}
    return None


def _count(ahead):
    return None if None in ahead else sum(ahead)
