"""Many workers: a hundred that print and end, and a thousand that do nothing."""

import os
import subprocess
import sys
import threading

from bench import clock, launches, world
from bench.console import Console
from bench.work import CODE

ABREAST = 2  # bare interpreters that run at a time
QUIET = "exec sleep 1000000"
SMALL = 100  # at how many workers memory is read too


def at_once(runs, size):
    """Launch size workers in one call, until all have printed and ended; beside that, as many bare interpreters, two at a time.

    First in a new session; then whenever as many wait again; at last as soon as the ones before have ended.
    """
    with Console() as console, world.session():
        clock.rest(1)
        first, _ = _muster(console, size)
        samples = {"first": [clock.ms(first)], "muster": [], "bare": [], "at once again": []}
        ahead = []
        for _ in range(runs):
            _fill(size)
            samples["bare"].append(clock.ms(_bare(size)))
            clock.rest(0.5)  # the kernel still takes the ends of the bare ones to pieces
            took, waited = _muster(console, size)
            samples["muster"].append(clock.ms(took))
            ahead.append(waited)
        for _ in range(runs):
            samples["at once again"].append(clock.ms(_muster(console, size)[0]))
        facts = {"workers": size, "bare ones at a time": ABREAST, "started ahead": ahead}
    return {"samples": samples, "facts": facts}


REFILL = 60  # seconds


def _fill(n):
    """Wait until n engines wait, and their zygote, or no more begin to."""
    last, since = -1, clock.now()
    while last < n + 1 and clock.now() - since < REFILL:
        clock.rest(2)
        waiting = launches.waiting()
        if waiting is None or len(waiting) == last:
            return
        last = len(waiting)


def _muster(console, n):
    """Return how long it took, and how many of the workers had been started ahead."""
    import cdsw

    waiting = launches.waiting()
    console.clear()
    start = clock.now()
    workers = cdsw.launch_workers(n, cpu=0.01, memory=0.1, code=CODE["python"])
    done = cdsw.await_workers(workers, timeout_seconds=2 * world.DEADLINE)
    ended = clock.now()
    printed = console.wait(n)
    if done["failures"] or len(done["workers"]) != n:
        raise RuntimeError(
            "%d of %d workers succeeded; the first that did not: %s" % (len(done["workers"]), n, done["failures"][:1])
        )
    ahead = None if waiting is None else len(waiting.intersection(w["id"] for w in workers))
    return max(ended, printed) - start, ahead


def _bare(n):
    todo = iter(range(n))
    lock = threading.Lock()

    def some():
        while True:
            with lock:
                if next(todo, None) is None:
                    return
            subprocess.run([sys.executable, "-c", CODE["python"]], stdout=subprocess.PIPE, check=True)

    threads = [threading.Thread(target=some) for _ in range(ABREAST)]
    start = clock.now()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return clock.now() - start


def idle(runs, size):
    """Start size workers that sleep, list them, stop them, and count what is left. What server and keeper take is read meanwhile."""
    world.needs_groups()
    with world.session(settings=world.SHELL_KERNEL, silent=True) as w:
        import cdsw

        session = os.environ["CDSW_ENGINE_ID"]
        server, keeper = w.server.pid, world.keeper(session)

        def start(n):
            workers = cdsw.launch_workers(n, cpu=0.01, memory=0.02, kernel="light", code=QUIET)
            up = cdsw.await_workers(workers, wait_for_completion=False, timeout_seconds=2 * world.DEADLINE)
            if len(up["workers"]) != n:
                raise RuntimeError(
                    "%d of %d workers run; the first that does not: %s" % (len(up["workers"]), n, up["failures"][:1])
                )
            return workers

        def stop(workers):
            cdsw.stop_workers(*[x["id"] for x in workers])
            cdsw.await_workers(workers, timeout_seconds=2 * world.DEADLINE)
            world.until(lambda: not _of(session, workers), "the stopped workers' processes are gone")

        stop(start(min(20, size)))  # what is made once is made now
        memory = [_memory(0, server, keeper)]
        few = start(min(SMALL, size // 2))
        memory.append(_memory(len(few), server, keeper))
        stop(few)
        began = clock.now()
        workers = start(size)
        started = clock.ms(clock.now() - began)
        memory.append(_memory(size, server, keeper))
        lists = [clock.ms(_listed(cdsw, size)) for _ in range(runs)]
        ids = [x["id"] for x in workers]
        held = world.Held(_of(session, workers))  # what is started ahead stays
        began = clock.now()
        cdsw.stop_workers(*ids)
        answered = clock.ms(clock.now() - began)
        remain = held.wait()
        stopped = clock.ms(clock.now() - began)
        cdsw.await_workers(workers, timeout_seconds=2 * world.DEADLINE)
        w.server.terminate()  # ends the session
        w.server.wait(world.DEADLINE)
        facts = {
            "workers": size,
            "of them": "shells that sleep",
            "memory": memory,
            "processes after stop": remain,
            "left": world.left(w, session),
        }
        return {
            "samples": {"start": [started], "list": lists, "stop answered": [answered], "stop": [stopped]},
            "facts": facts,
        }


def _of(session, workers):
    ids = {x["id"] for x in workers}
    return [pid for pid, engine in world.processes(session).items() if engine in ids]


def _listed(cdsw, n):
    start = clock.now()
    found = cdsw.list_workers()
    took = clock.now() - start
    live = sum(1 for x in found if x["status"] == "running")
    if live != n:
        raise RuntimeError("the list shows %d running workers of %d" % (live, n))
    return took


def _memory(n, server, keeper):
    """Return what server and keeper take for n workers, when both have come to rest."""
    clock.rest(2)
    return {"workers": n, "server kB": world.private_kb(server), "keeper kB": world.private_kb(keeper)}
