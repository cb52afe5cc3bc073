# The session of "make launches": workers one after the other, a few of them at a time, and then many at once.
import collections
import os
import sys
import time

import cdsw

ROW, AT_ONCE, OUTSTANDING = (int(os.environ["CHAOS_" + name]) for name in ("ROW", "AT_ONCE", "OUTSTANDING"))


def launch(n):
    return cdsw.launch_workers(n, cpu=0.01, memory=0.05, code="print('here')")


def over(workers):
    done = cdsw.await_workers(workers, timeout_seconds=0)
    assert len(done["workers"]) == len(workers), done["failures"][:2]


def stand(mark):
    """Say where it stands, and go on when whoever looks has seen enough."""
    print("STANDS", mark, flush=True)
    assert sys.stdin.readline()


# Before and after as many engines wait as were launched at once, and who follows the console has as many logs open.
over(launch(AT_ONCE))
stand("before")
out = collections.deque()
began = time.monotonic()
for i in range(ROW):
    out.append(launch(1))
    if len(out) == OUTSTANDING:
        over(out.popleft())
    if i + 1 == ROW // 5 or i + 1 == ROW:
        while out:
            over(out.popleft())
        print("TOOK %d %.3f" % (i + 1, time.monotonic() - began), flush=True)
        stand("row %d" % (i + 1))
        began = time.monotonic()
began = time.monotonic()
many = launch(AT_ONCE)
answered = time.monotonic()
over(many)
print("TOOK %d %.3f" % (AT_ONCE, time.monotonic() - began), flush=True)
stand("at once, answered after %.3f s" % (answered - began))
