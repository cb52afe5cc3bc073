"""Lines of several engines, labelled: the rules of ``muster run`` (package view in the server's sources).

A line is held back until its newline comes, but only for a moment and 64 kB. The moment is a second for a worker, which may
have to wait so long for a CPU between two pieces, and shorter where a person looks on: for the session's own lines, which have
no label, and for those that paint themselves anew. Then its beginning is shown, and what follows continues it if nothing else
was written meanwhile, or else begins a line of its own. A worker's last line is ended with it: the script that awaited it prints next, past this.
"""

from __future__ import annotations

import codecs
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

_PARTIAL = 0.1
_PARTIAL_OF_WORKERS = 1.0
_MAX_HELD = 64 << 10
_COLORS = ("36", "33", "35", "32", "34", "96", "93", "95", "92", "94")
_NO_NAME = "Untitled Worker"
# The events whose message people are told as it is.
_TOLD = ("notice", "refused", "waiting", "retry", "damaged")


class _Engine:
    def __init__(self, place: Any, session: bool, number: int, name: str) -> None:
        self.place = place
        self.session = session
        self.number = number
        self.name = name
        self.lines: Dict[str, _Line] = {}


class _Line:
    """The line that an engine's stream is printing."""

    def __init__(self, of: _Engine, stream: str) -> None:
        self.of = of
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.held = ""
        self.due = 0.0  # when what is held is shown
        self.cut = False  # shown in part and ended: its own newline, if that comes next, is not shown again
        self.returned = False  # the last that was written of it is \r

    def paints(self) -> bool:
        """Report whether it steers a terminal, as progress bars do."""
        return any(c in self.held for c in "\r\b\x1b")


class Labeler:
    """Takes records, writes to a screen: write(place, stream, text), cursor(place, stream), color."""

    def __init__(self, session: str, place: Callable[[str], Any], screen: Any) -> None:
        self._session = session
        self._place = place
        self._screen = screen
        self._engines: Dict[str, _Engine] = {}
        self._waiting: List[_Line] = []  # with something held back
        self._open: Dict[Any, _Line] = {}  # by cursor: the half line that was written last
        self._out: List[Any] = []  # [place, stream, texts]
        self.seen = 0  # workers

    def text(self, engine: str, stream: str, data: bytes, now: float) -> None:
        of = self._engine(engine)
        line = of.lines.get(stream)
        if line is None:
            line = of.lines[stream] = _Line(of, stream)
        text = line.decoder.decode(data)
        if line.cut and text:
            line.cut = False
            if not line.held and text[0] == "\n":
                text = text[1:]
        if of.session:
            for other in of.lines.values():
                if other is not line and other.paints() and self._cursor(other) == self._cursor(line):
                    self._release(other)  # on one screen what it paints belongs before this
        whole = text.split("\n")
        rest = whole.pop()
        for part in whole:
            self._begin(line, self._taken(line) + part)
            self._put(line, "\n")
            self._open.pop(self._cursor(line), None)
        if len(line.held) + len(rest) > _MAX_HELD:
            self._begin(line, self._taken(line) + rest)
        elif rest:
            self._hold(line, rest, now)

    def _hold(self, line: _Line, text: str, now: float) -> None:
        if not line.held:
            self._waiting.append(line)
            line.due = now + (_PARTIAL if line.of.session else _PARTIAL_OF_WORKERS)
        line.held += text
        if now + _PARTIAL < line.due and line.paints():
            line.due = now + _PARTIAL

    def event(self, engine: str, data: bytes) -> str:
        """Take an event; return the engine that ended with it."""
        try:
            e = json.loads(data.decode("utf-8"))
        except ValueError:
            return ""
        engine = e.get("engine") or engine
        kind, message = e.get("type"), e.get("message") or ""
        if engine == self._session:
            if kind in _TOLD and message:
                self.note(self._place(engine), message)
            return ""
        of = self._engine(engine)
        if kind == "engine":
            self._rename(engine, of, e.get("name") or "")
        elif kind == "exit":
            for line in of.lines.values():
                if line.held:
                    self._release(line)
                if self._open.get(self._cursor(line)) is line:
                    self._separate(self._cursor(line))
            if e.get("status") in ("failed", "timedout") and message:
                self.note(of.place, "worker %s %s" % (of.name, message))
            return engine
        elif kind in _TOLD and message:
            self.note(of.place, message)
        return ""

    def note(self, place: Any, message: str) -> None:
        """Write a message of ours, in lines of its own."""
        self._separate(self._screen.cursor(place, "stderr"))
        for text in message.rstrip("\n").split("\n"):
            self._write(place, "stderr", "muster: %s\n" % _printable(text))

    def due(self) -> float:
        """Return when something is held back long enough, on the clock of text and expire; infinite: nothing is held back."""
        return min((line.due for line in self._waiting), default=float("inf"))

    def expire(self, now: float) -> None:
        for line in list(self._waiting):
            if line.due <= now:
                self._release(line)

    def in_a_line(self) -> bool:
        return bool(self._open)

    def close(self) -> None:
        for line in list(self._waiting):
            self._release(line)
        for cursor, line in list(self._open.items()):
            if not line.of.session:
                self._separate(cursor)

    def send(self) -> None:
        """Write what is to be written."""
        out, self._out = self._out, []
        for place, stream, texts in out:
            self._screen.write(place, stream, "".join(texts))

    def _engine(self, id: str) -> _Engine:
        of = self._engines.get(id)
        if of is None:
            of = self._engines[id] = _Engine(self._place(id), id == self._session, self.seen, id[:8])
            if not of.session:
                self.seen += 1
        return of

    def _rename(self, id: str, of: _Engine, name: str) -> None:
        name = _printable(name)
        if name and name != _NO_NAME:
            if any(o is not of and o.name == name for o in self._engines.values()):  # launched together, most likely
                name += " " + id[:4]
            of.name = name

    def _taken(self, line: _Line) -> str:
        held, line.held = line.held, ""
        if held:
            self._waiting.remove(line)
        return held

    def _release(self, line: _Line) -> None:
        self._begin(line, self._taken(line))

    def _cursor(self, line: _Line) -> Any:
        return self._screen.cursor(line.of.place, line.stream)

    def _begin(self, line: _Line, text: str) -> None:
        """Continue a line if it was the last thing written, or else begin it."""
        cursor, label = self._cursor(line), self._label(line.of)
        if line.of.session:
            if cursor in self._open and not self._open[cursor].of.session:
                self._separate(cursor)
            self._open[cursor] = line
            self._put(line, text)
            return
        if self._open.get(cursor) is not line:
            self._separate(cursor)
            self._put(line, label)
            self._open[cursor], line.returned = line, False
        if self._screen.color:  # what follows a \r is written over the label
            for i, part in enumerate(text.split("\r")):
                self._put(line, ("\r" if i else "") + (label if part and (i or line.returned) else "") + part)
            line.returned = text.endswith("\r") or line.returned and not text
        else:
            self._put(line, text)

    def _label(self, of: _Engine) -> str:
        if self._screen.color:
            return "\x1b[%sm[%s]\x1b[0m " % (_COLORS[of.number % len(_COLORS)], of.name)
        return "[%s] " % of.name

    def _separate(self, cursor: Any) -> None:
        line = self._open.pop(cursor, None)
        if line is not None:
            self._put(line, "\n")
            line.cut = True

    def _put(self, line: _Line, text: str) -> None:
        self._write(line.of.place, line.stream, text)

    def _write(self, place: Any, stream: str, text: str) -> None:
        if self._out and self._out[-1][0] is place and self._out[-1][1] == stream:
            self._out[-1][2].append(text)
        elif text:
            self._out.append([place, stream, [text]])


def _printable(text: str) -> str:
    """Replace what would move the cursor or change the colours."""
    return "".join("?" if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in text)
