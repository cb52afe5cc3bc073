"""Shows what the workers print, in a process that became a session by itself: in its terminal, or in the notebook's cell.

    server ── lines of JSON ──► reading thread ──► terminal | cell of the launch
                                      └ half a line ──► a thread that shows it when its time has come

A terminal that stands still holds up the reading, not the workers. Both are daemon threads, so that the main thread may be as busy as it likes. Nothing that goes wrong here reaches the
user's code. Nothing is being written while the process forks, so that a child inherits no lock that nobody opens and no
text that it would write again.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import time
from urllib.parse import urlsplit

from . import _away, _http, _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Dict, List, Optional, Type

    from ._screen import Screen

_READ_BYTES = 256 << 10
# How long an await, and the process's end, wait for the last lines.
_SETTLE_SECONDS = 2.0
_END_SECONDS = 10.0
# A script that answers a worker and exits must not take with it what the worker prints of the answer: so long may workers
# go on after the end of a script (the same as in muster run).
_LAST_WORDS_SECONDS = 0.5
# What is shown may hang in a terminal that stands still: a fork does not wait for longer.
_FORK_SECONDS = 1.0
# A worker's first lines may be read before the reply that tells to which launch it belongs.
_REPLY_SECONDS = 5.0
# How long the server may be away before a person is told, and before it is started again; and how often that is tried.
_LOST_SECONDS = 3.0
_REVIVE_SECONDS = 1.0
_REVIVE_PAUSE = 10.0


# The name of the threads.
THREAD = "muster-console"


class launch:
    """Context manager around a request that launches workers: they belong where it is made. Called with its reply."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def __enter__(self) -> launch:
        self._place = self._follower.begin()
        return self

    def __call__(self, workers: List[Dict[str, Any]]) -> None:
        self._follower.launched(self._place, workers)

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._follower.over()


class _Unknown(Exception):
    """A server answers, and does not know this session."""


class Follower:
    """Follows the console of the session that this process is."""

    def __init__(self, session: str, screen: Screen) -> None:
        self._session = session
        self._pid = os.getpid()
        self._screen = screen
        self._url = os.environ["MUSTER_URL"]
        self._key = os.environ["CDSW_API_KEY"]
        self._reviving = threading.Lock()
        self._revived = 0.0  # seconds of the monotonic clock
        self._turn = threading.Lock()  # held by the thread that shows something
        self._half = threading.Event()  # something is held back, and due before the other thread would look
        self._alarm = float("inf")  # when that looks, on the monotonic clock; changed by who has the turn
        self._shown = threading.Event()  # all of it, to the end
        self._count = 0  # of what was shown
        self._ending = False
        self.session_over = False  # the session, although this process lives
        self._known = threading.Condition()  # guards what follows
        self._launching = 0
        self._places: Dict[str, Any] = {}
        self._latest = screen.place()
        self._ended: Dict[str, bool] = {}
        self._writing = threading.Lock()  # held while lines are written, and while the process forks
        self._forking = threading.local()  # held: this thread, which forks, has it
        self._labeler = _labels.Labeler(session, self._place, screen)

    def start(self) -> None:
        for target in (self._read, self._expire):
            threading.Thread(target=target, name=THREAD, daemon=True).start()

    # What the calls tell.

    def begin(self) -> Any:
        place = self._screen.place()
        with self._known:
            self._launching += 1
            self._latest = place
        return place

    def launched(self, place: Any, workers: List[Dict[str, Any]]) -> None:
        with self._known:
            for w in workers:
                if w.get("id"):
                    self._places[w["id"]] = place

    def over(self) -> None:
        with self._known:
            self._launching -= 1
            self._known.notify_all()

    def settle(self, workers: List[Dict[str, Any]]) -> None:
        """Wait until what these workers printed is shown, if they have ended: it then stands above what comes next."""
        final = [w["id"] for w in workers if w.get("id") and w.get("finished_at")]
        with self._known:
            self._known.wait_for(lambda: self._shown.is_set() or all(i in self._ended for i in final), _SETTLE_SECONDS)

    def in_a_line(self) -> bool:
        """Report whether a half line was written last."""
        return self._labeler.in_a_line()

    def end(self) -> None:
        """End the session with the interpreter, and show the last lines."""
        if os.getpid() != self._pid or self._ending:
            return
        self._ending = True
        if not self._places and not self._labeler.seen:
            return  # the end of the process is enough
        try:
            if not self._screen.interactive:
                everything = {"all": True, "wait_for_completion": True, "timeout_seconds": _LAST_WORDS_SECONDS}
                self._ask("POST", "/sessions/self/await", json.dumps(everything))
            self._ask("DELETE", "/sessions/self")
        except (OSError, http.client.HTTPException):
            return  # without a server the end of the process is the session's too
        # What reads our output may take its time (less, a slow pipe): it holds up the end, as it does for any print.
        before = self._count
        while not self._shown.wait(_END_SECONDS) and (self._turn.locked() or self._count > before):
            before = self._count

    def _ask(self, method: str, path: str, body: Optional[str] = None) -> None:
        conn = http.client.HTTPConnection(*_http.address(self._url), timeout=_END_SECONDS)
        try:
            headers = {"Authorization": "Bearer " + self._key, "Content-Type": "application/json", "Accept": "application/json"}
            conn.request(method, _http.BASE + path, body, headers)
            conn.getresponse().read()
        finally:
            conn.close()

    def before_fork(self) -> None:
        self._forking.held = self._writing.acquire(timeout=_FORK_SECONDS)

    def after_fork(self) -> None:
        if self._forking.held:  # or else it is that of the thread that shows, which needs it still
            self._writing.release()

    def in_child(self) -> None:
        """Be of no harm in a forked child, where nobody shows and nobody opens a lock that was not had in time."""
        self._writing = threading.Lock()

    # The threads.

    def _read(self) -> None:
        position, since, told = "", 0.0, False
        wait = _away.Wait(float("inf"))
        while True:
            try:
                for record in self._stream(position):
                    if told:
                        self._show({"back": True})
                    if since:
                        since, told, wait = 0.0, False, _away.Wait(float("inf"))
                    position = record.get("position") or position
                    self._show(record)
                if not self._ending:
                    self.session_over = True
                    self._show({"over": True})
                break
            except _Unknown as e:
                if not self._ending:
                    self._show({"lost": str(e)})
                break
            except (OSError, http.client.HTTPException, ValueError) as e:
                since = since or time.monotonic()
                if not told and time.monotonic() - since >= _LOST_SECONDS:
                    told = True
                    self._show({"lost": str(e) or type(e).__name__})
                if self._ending or not wait.more():
                    break
            except Exception as e:  # the interpreter ends
                self._show({"lost": str(e)})
                break
        self._show(None)

    def revive(self, away: float) -> None:
        """Start a server again that has been away for some seconds: nobody else would. Its sessions go on meanwhile."""
        with self._reviving:
            now = time.monotonic()
            if self._ending or away < _REVIVE_SECONDS or now - self._revived < _REVIVE_PAUSE or os.getpid() != self._pid:
                return
            self._revived = now
        from . import _attach

        _attach.start_again()

    def _stream(self, position: str) -> Any:
        conn = http.client.HTTPConnection(*_http.address(self._url))
        try:
            headers = {"Authorization": "Bearer " + self._key, "Accept": "application/x-ndjson"}
            conn.request("GET", _http.BASE + "/sessions/self/console?follow=true&from=" + position, headers=headers)
            response = conn.getresponse()
            if response.status == 429 or response.status >= 500:  # it is busy, or ends
                raise http.client.HTTPException("HTTP %d" % response.status)
            if response.status != 200:
                raise _Unknown("HTTP %d" % response.status)
            rest = b""
            for data in iter(lambda: response.read1(_READ_BYTES), b""):  # readline would not tell the end from a break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield json.loads(line.decode("utf-8"))
        finally:
            conn.close()

    def _expire(self) -> None:
        while not self._shown.is_set():
            soon = self._alarm != float("inf")
            if self._half.wait(max(0.0, self._alarm - time.monotonic()) if soon else None):
                self._half.clear()
            else:
                self._show({})

    def _show(self, record: Optional[Dict[str, Any]]) -> None:
        """Show a record; {}: what was held back long enough; None: all, and nothing follows."""
        ended = ""
        with self._turn:
            try:
                ended = self._take(record)  # may wait for a reply: no fork is to wait for that
                with self._writing:
                    self._labeler.send()
            except Exception:  # a stream that was closed, a kernel that ends, a server of another version
                pass
            self._count += 1
            due = self._labeler.due()
            if record == {} or due < self._alarm:
                self._alarm = due
                if record != {}:
                    self._half.set()
        with self._known:
            if ended:
                self._ended[ended] = True
            if record is None:
                self._shown.set()
                self._half.set()
            self._known.notify_all()

    def _take(self, record: Optional[Dict[str, Any]]) -> str:
        """Label a record of _show's. Return the worker that ended with it."""
        labeler = self._labeler
        ended = ""
        if record is None:
            labeler.close()
        elif not record:
            labeler.expire(time.monotonic())
        elif "over" in record:
            labeler.note(None, "this session was ended, and its workers with it; start this process again for a new one")
        elif "lost" in record:
            labeler.note(None, "no server answers (%s): what the workers print is shown when one is back" % record["lost"])
        elif "back" in record:
            labeler.note(None, "the server is back")
        elif record["stream"] == "event":
            payload = _payload(record)
            self._tried_again(payload)
            ended = labeler.event(record["engine"], payload)
        elif record["stream"] in ("stdout", "stderr"):
            labeler.text(record["engine"], record["stream"], _payload(record), time.monotonic())
        return ended

    def _tried_again(self, payload: bytes) -> None:
        """A further attempt of a worker belongs where its first one does."""
        if b'"retry_of"' not in payload:
            return
        event = json.loads(payload.decode("utf-8"))
        with self._known:
            if event.get("retry_of") in self._places:
                self._places[event.get("engine")] = self._places[event["retry_of"]]

    def _place(self, engine: str) -> Any:
        """Return where an engine's output belongs. One that no reply has told yet belongs to the launch that is made."""
        with self._known:
            if engine != self._session:
                self._known.wait_for(lambda: engine in self._places or not self._launching, _REPLY_SECONDS)
            return self._places.get(engine, self._latest)


def _payload(record: Dict[str, Any]) -> bytes:
    if "base64" in record:
        return base64.b64decode(record["base64"])
    return record.get("text", "").encode("utf-8")
