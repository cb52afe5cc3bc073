"""The peers in R, clocked in an R process by rpackages.R."""

import os
import subprocess

from bench import bare, clock
from bench.cases import Missing
from bench.peer import SAME, Peer

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rpackages.R")


def measure(peer, runs):
    """Return the milliseconds of runs calls, and those of a bare Rscript before and after them."""
    argv = bare.command("r")
    package = peer.package
    if package:
        there = subprocess.run(
            ["Rscript", "--vanilla", "-e", "if (!requireNamespace('%s', quietly = TRUE)) quit(status = 1)" % package]
        )
        if there.returncode != 0:
            raise Missing("R has no package %s; run: apt-get install r-cran-%s, where Debian has it" % (package, package))
    alone = [bare.line(argv) for _ in range(min(runs, 5))]
    done = subprocess.run(
        ["Rscript", "--vanilla", SCRIPT, peer.name, str(runs)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise RuntimeError("Rscript %s %s ended with %d: %s" % (SCRIPT, peer.name, done.returncode, done.stderr[-1000:]))
    alone += [bare.line(argv) for _ in range(min(runs, 5))]
    return {"launch": [float(n) for n in done.stdout.split()], "bare": [clock.ms(s) for s in alone]}


def _peer(name, title, pool, fresh, package="", slow=False, tiny=False):
    return Peer(name, title, pool, fresh, SAME, None, package, ("r",), slow=slow, tiny=tiny)


PEERS = [
    _peer("callr-cold", "callr::r", "", True, "callr"),
    _peer("callr-warm", "callr::r_session, warm", "the R process", False, "callr"),
    _peer("parallel-start", "parallel, PSOCK cluster start", "", True, slow=True),
    _peer("parallel-fork", "parallel, mcparallel (fork)", "the session's own process", True, tiny=True),
    _peer("parallel-warm", "parallel, warm PSOCK worker", "the R process", False),
    _peer("mirai-start", "mirai, daemon start", "", True, "mirai", slow=True),
    _peer("mirai-warm", "mirai, warm daemon", "the R process", False, "mirai"),
]
