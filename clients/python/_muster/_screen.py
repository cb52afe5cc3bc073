"""Where the workers of a process that became a session are shown: its terminal (or what it has for one), or a notebook."""

from __future__ import annotations

import io
import os
import sys
import time

from . import _progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    Screen = Union["Terminal", "Notebook"]

# How long a line of the script's own may take to be written: a print writes its arguments and the newline one by one.
_LINE_SECONDS = 0.05


class _Line:
    """Whether the script stands in the middle of a line."""

    open = False


class _Script:
    """A file as the script writes to it, which is noted, and as it is written to for the workers."""

    def __init__(self, f: Any, line: _Line) -> None:
        self.line = line
        self._write = f.write
        if type(f) is io.TextIOWrapper:  # what others put in its place knows its own ways
            f.write = self._and_note  # an attribute of this one object, which stays what it is

    def _and_note(self, text: str) -> int:
        if text:
            self.line.open = not text.endswith("\n")  # before: while it is written, other threads run
        return self._write(text)

    def write(self, text: str) -> None:
        """Write for the workers, in a line of its own if the script's does not end soon."""
        if self.line.open:
            until = time.monotonic() + _LINE_SECONDS
            while self.line.open and time.monotonic() < until:
                time.sleep(0.0005)
            if self.line.open:
                self.line.open = False
                text = "\n" + text
        try:
            self._write(text)
        except UnicodeEncodeError as e:
            self._write(text.encode(e.encoding, "backslashreplace").decode(e.encoding))


class Terminal:
    """Standard output and error as they were when the process became a session: a redirection is not for the workers."""

    def __init__(self) -> None:
        self.files = {"stdout": sys.stdout or sys.__stdout__, "stderr": sys.stderr or sys.__stderr__}
        terminals = {name: _is_terminal(f) for name, f in self.files.items()}
        self.color = terminals["stdout"] and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
        self.together = self.color or _identity(self.files["stdout"]) == _identity(self.files["stderr"])
        line = _Line()  # on one terminal there is one cursor
        self._scripts = {
            name: _Script(f, line if self.together else _Line()) for name, f in self.files.items() if f is not None
        }

    def place(self) -> Any:
        """Return where the output of what is launched now belongs."""
        return None

    def cursor(self, place: Any, stream: str) -> Any:
        """Return what tells one cursor from another."""
        return None if self.together else stream

    def write(self, place: Any, stream: str, text: str) -> None:
        f = self.files[stream]
        if f is None:
            return
        _progress.hide()
        self._scripts[stream].write(text)
        f.flush()


class Notebook:
    """The cells of a notebook. Each message names the request that it answers, also long after that was answered."""

    color = False
    interactive = True

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def place(self) -> Any:
        # The stream knows the cell also in a thread that the cell started (ipykernel 6 and newer).
        header = getattr(sys.stdout, "parent_header", None)
        if not header:
            get = getattr(self._kernel, "get_parent", None)
            header = get("shell") if get is not None else getattr(self._kernel, "_parent_header", None)
        return dict(header or {})

    def cursor(self, place: Any, stream: str) -> Any:
        place = place or {}
        return place.get("msg_id") or place.get("header", {}).get("msg_id")

    def write(self, place: Any, stream: str, text: str) -> None:
        content = {"name": stream, "text": text}
        # The socket of the kernel's own output thread: it takes messages from every thread.
        self._kernel.session.send(
            self._kernel.iopub_socket, "stream", content, parent=place or {}, ident=("stream." + stream).encode("ascii")
        )


def screen() -> Screen:
    """Return where this process's workers are shown."""
    ipython = sys.modules.get("IPython")
    get = getattr(ipython, "get_ipython", None)
    kernel = getattr(get(), "kernel", None) if get is not None else None
    if kernel is not None and hasattr(kernel, "session") and getattr(kernel, "iopub_socket", None) is not None:
        return Notebook(kernel)
    return Terminal()


def _is_terminal(f: Any) -> bool:
    try:
        return bool(f.isatty())
    except (AttributeError, ValueError):
        return False


def _identity(f: Any) -> Any:
    """Return what tells files apart; that of a file that does not say is its own."""
    try:
        s = os.fstat(f.fileno())
        return s.st_dev, s.st_ino
    except (AttributeError, OSError, ValueError):
        return id(f)
