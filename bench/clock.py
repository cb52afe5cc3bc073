"""Clocks and figures: how time is taken, how raw numbers become figures, and what the machine lost to others meanwhile."""

import math
import os
import statistics
import time

# Seconds that only go forward, the same for all processes of the machine: the kernel's CLOCK_MONOTONIC.
now = time.monotonic


# The smoke test asks only whether everything works: nothing has to come to rest for that.
HURRY = "BENCH_HURRY"


def rest(seconds):
    """Let the machine come to rest, so that what was begun before is not in the next figure."""
    time.sleep(min(seconds, 0.1) if os.environ.get(HURRY) else seconds)


def ms(seconds):
    return seconds * 1000


def quantile(numbers, q):
    """Return the smallest of the numbers that at least the share q of them does not exceed (nearest rank): one that was measured."""
    ordered = sorted(numbers)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def figures(numbers):
    """Return count, min, median, p99 and max. With fewer than 100 numbers the p99 is the largest."""
    return {
        "count": len(numbers),
        "min": min(numbers),
        "median": statistics.median(numbers),
        "p99": quantile(numbers, 0.99),
        "max": max(numbers),
    }


class Steal:
    """The share of the CPUs' time that the hypervisor gave to others, from one moment to the next, and how busy the rest was."""

    def __init__(self, path="/proc/stat"):
        self._path = path
        self._before = self._read()

    def _read(self):
        with open(self._path) as f:
            ticks = [int(n) for n in f.readline().split()[1:9]]  # user nice system idle iowait irq softirq steal
        return ticks[7], ticks[3] + ticks[4], sum(ticks)

    def since(self):
        """Return the shares of stolen and of idle time since the beginning, each from 0 to 1."""
        after = self._read()
        stolen, idle, all_of_it = (b - a for a, b in zip(self._before, after))
        return {"steal": stolen / max(1, all_of_it), "idle": idle / max(1, all_of_it)}
