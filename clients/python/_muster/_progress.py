"""The line that a long await_workers shows on a terminal: one line on stderr, rewritten in place, cleared at the end."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time

from . import _session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Dict, Optional, TextIO, Type

# Seconds before the line appears, and between two drawings.
_AFTER = 1.0

# The line that is shown. What else writes to the terminal hides it; the next drawing shows it again.
_current: Optional[line] = None


def hide() -> None:
    shown = _current
    if shown is not None:
        shown.clear()


class line:
    """Context manager; called with the server's progress, it shows it when the wait has lasted more than a second."""

    def __init__(self, out: Optional[TextIO] = None) -> None:
        self._out = sys.stderr if out is None else out
        self._progress: Dict[str, Any] = {}
        self._width = 0
        self._ended = threading.Event()
        self._drawing = threading.Lock()
        self._thread: Optional[threading.Thread] = None

    def __call__(self, progress: Dict[str, Any]) -> None:
        self._progress = progress

    def __enter__(self) -> line:
        try:
            # In an engine stderr is a pipe; MUSTER_TERMINAL says that a terminal shows what goes into it.
            terminal = self._out.isatty() or os.environ.get("MUSTER_TERMINAL") == "1"
        except (AttributeError, ValueError):  # no stderr, or a closed one
            terminal = False
        global _current
        if terminal:
            _current = self
            self._thread = threading.Thread(target=self._run, name="muster-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        global _current
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self.clear()
            if _current is self:
                _current = None

    def clear(self) -> None:
        with self._drawing:
            if self._width:
                self._write("\r" + " " * self._width + "\r")
                self._width = 0
                self._wait_until_read()

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._ended.wait(_AFTER):
            if _session.follower is not None and _session.follower.in_a_line():
                continue  # it would be written over a worker's half line
            text = text_of(self._progress, time.monotonic() - begun)[: shutil.get_terminal_size().columns - 1]
            with self._drawing:
                self._write("\r" + text + " " * max(0, self._width - len(text)))
                self._width = len(text)

    def _wait_until_read(self) -> None:
        """In an engine, stdout and stderr are two pipes: what is printed next must not overtake the line's end."""
        try:
            import fcntl
            import termios

            for _ in range(50):
                left = fcntl.ioctl(self._out.fileno(), termios.FIONREAD, b"\0" * 4)
                if left == b"\0" * 4:
                    break
                time.sleep(0.001)
        except (ImportError, AttributeError, OSError, ValueError):  # no pipe
            pass

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # the terminal is gone: nobody looks
            pass


def text_of(progress: Dict[str, Any], seconds: float) -> str:
    """Return the line for what the server told last."""
    text = "waiting for workers"
    if progress.get("of"):
        text = "waiting for workers: %s of %s done" % (progress.get("done", 0), progress["of"])
    text += ", %d s" % seconds
    waiting = progress.get("waiting")
    if isinstance(waiting, str) and waiting:
        text += " (%s)" % " ".join(waiting.split())
    return text
