"""Interpreters as people start them by hand: what Muster and every peer is compared with."""

import shutil
import subprocess
import sys

from bench import clock
from bench.cases import Missing
from bench.work import CODE, MARK
from bench.world import environment


def command(work):
    """Return what is typed for a work. Raises Missing where its interpreter or its modules are not there."""
    argv = {
        "r": ["Rscript", "-e", CODE["r"]],
        "scala": ["scala", "-nc", "-e", CODE["scala"]],
    }.get(work, [sys.executable, "-c", CODE.get(work, "")])
    if shutil.which(argv[0]) is None:
        raise Missing("%s is not installed" % argv[0])
    if work == "numpy+pandas":
        import importlib.util

        lacks = [m for m in ("numpy", "pandas") if importlib.util.find_spec(m) is None]
        if lacks:
            raise Missing("the interpreter has no %s; make bench uses one that has" % " and no ".join(lacks))
    return argv


def line(argv):
    """Start a program, and return the seconds until its first line is here. It is waited for outside of the time."""
    env = environment()
    start = clock.now()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    first = p.stdout.readline()
    took = clock.now() - start
    _, errors = p.communicate()
    if first.decode().strip() != MARK:
        raise RuntimeError(
            "%s printed %r and ended with %d: %s" % (" ".join(argv), first, p.returncode, errors.decode()[-1000:])
        )
    return took
