"""Stands in for the session's standard output: where workers' lines arrive, and the moment at which each did."""

import sys
import threading

from bench import clock
from bench.work import MARK


class Console:
    """Takes what is written to standard output, and notes when a line with the mark came. A context manager: entered before the
    process becomes a session, which writes to what it found as its output then."""

    def __init__(self, mark=MARK):
        self._mark, self._stdout = mark, sys.__stdout__
        self._changed = threading.Condition()
        self._came = []

    def write(self, text):
        at = clock.now()
        n = text.count(self._mark)
        if n:
            with self._changed:
                self._came += [at] * n
                self._changed.notify_all()
        return len(text)

    def __getattr__(self, name):
        return getattr(self._stdout, name)

    def __enter__(self):
        sys.stdout = self
        return self

    def __exit__(self, *_):
        sys.stdout = sys.__stdout__

    def clear(self):
        with self._changed:
            self._came.clear()

    def wait(self, n=1, seconds=120):
        """Return the moment at which the n-th line came."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._came) >= n, seconds):
                raise RuntimeError("of %d lines %d came within %d s" % (n, len(self._came), seconds))
            return self._came[n - 1]
