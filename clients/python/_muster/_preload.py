"""Import modules ahead of the work, and see what that leaves behind which work would meet that does not import them.

There is no end of what a module may do when it is imported; looked at is what it does to the process, and random numbers. Whoever leaves
such a thing is imported by those who want it, and by nobody ahead.
"""

import _locale
import _signal
import _thread
import os
import random
import sys

import fcntl

FIONREAD = 0x541B  # ioctl(2), as most machines have it

# Who draws random numbers for others, and those whose draws are made anew in each fork (see _zygote._forget).
MESSENGERS = "random", "secrets", "uuid", "importlib", "_frozen_importlib", "_frozen_importlib_external", "_muster_preload"
DRAWN_ANEW = "numpy.random", "multiprocessing.process"


class Import:
    """Context manager around imports."""

    def __enter__(self):
        self.drawn = drawn = []  # names of modules that drew random numbers of the system's
        self._urandom = urandom = os.urandom

        def draw(size):
            frame = sys._getframe(1)
            while frame is not None and _is_of(_name(frame), MESSENGERS):
                frame = frame.f_back
            if frame is not None and not _is_of(_name(frame), DRAWN_ANEW):
                drawn.append(_name(frame))
            return urandom(size)

        self._draw = os.urandom = random._urandom = draw
        self._state = _state()
        return self

    def __exit__(self, *error):
        for module in list(sys.modules.values()):  # who has imported the name has it still
            names = getattr(module, "__dict__", {})
            for name in [n for n, value in list(names.items()) if value is self._draw]:
                names[name] = self._urandom
        now = _state()
        self.left = [what for what in now if now[what] != self._state[what]]


def _name(frame):
    return frame.f_globals.get("__name__", "")


def _is_of(name, modules):
    return name in modules or any(name.startswith(module + ".") for module in modules)


def _state():
    mask = os.umask(0o22)
    os.umask(mask)
    return {
        "another working directory": os.getcwd(),
        "another umask": mask,
        "other limits": _said("/proc/self/limits"),
        "child processes": _said("/proc/self/task/%d/children" % os.getpid()),
        "another sys.path": list(sys.path),
        "numbers drawn from random, or a seed": random.getstate(),
        "output": _printed(),
        "threads": _thread._count(),
        "another locale": _locale.setlocale(_locale.LC_ALL),
        "another priority": os.getpriority(os.PRIO_PROCESS, 0),
        "other processors": os.sched_getaffinity(0),
        "handlers of signals": [_handler(n) for n in range(1, _signal.NSIG)],
        "blocked signals": _signal.pthread_sigmask(_signal.SIG_BLOCK, []),
        "timers": [_signal.getitimer(n) for n in range(3)],
    }


def _said(file):
    """Return what a file of the kernel's says; None where it has none."""
    try:
        with open(file) as f:
            return f.read()
    except OSError:
        return None


def _handler(number):
    try:
        return _signal.getsignal(number)
    except (OSError, ValueError):  # those of the C library's own
        return None


def _printed():
    """Return how many bytes of output nobody has read."""
    found = []
    for fd in 1, 2:
        try:
            found.append(fcntl.ioctl(fd, FIONREAD, b"\0" * 4))
        except OSError:
            found.append(None)
    return found
