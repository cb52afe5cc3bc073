"""Waiting for a server that went away. Sessions do not need theirs: one that was killed or is replaced is followed by another,
which answers at the same address and knows what was launched."""

from __future__ import annotations

import sys
import time

from . import _errors, _session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, TypeVar

    Answer = TypeVar("Answer")

# How long a request waits for the next server, and when a person is told that it does.
PATIENCE_SECONDS = 60.0
_TELL_SECONDS = 2.0
_FIRST_PAUSE = 0.05
_LAST_PAUSE = 1.0


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Return what ask returns; while no server answers it is called again. For requests that may be carried out twice."""
    wait = Wait()
    while True:
        try:
            return ask()
        except _errors.ServerDownError:
            if not wait.more():
                raise


class Wait:
    """One absence of the server."""

    def __init__(self, patience: float = -1.0) -> None:
        self._began = 0.0
        self._pause = _FIRST_PAUSE
        self._told = False
        self._patience = PATIENCE_SECONDS if patience < 0 else patience

    def more(self) -> bool:
        """Sleep a moment, longer each time. Return False where it has no use to ask again."""
        follower = _session.follower
        now = time.monotonic()
        self._began = self._began or now
        away = now - self._began
        if away >= self._patience or (follower is not None and follower.session_over):
            return False
        if away >= _TELL_SECONDS and not self._told:
            self._told = True
            if follower is None:  # else that one says it
                sys.stderr.write("muster: the server does not answer; waiting for it\n")
                sys.stderr.flush()
        if follower is not None:
            follower.revive(away)
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LAST_PAUSE)
        return True
