"""The exceptions. One base, one class for each kind of error that a server tells, and those of the client itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple, Type


class MusterError(Exception):
    """Something went wrong. ``message`` says what, ``hint`` what to do next, ``kind`` is for programs."""

    kind = "internal"

    def __init__(self, message: str, hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint
        if kind:
            self.kind = kind

    def __str__(self) -> str:
        return self.message + "; " + self.hint if self.hint else self.message

    def __reduce__(self) -> Tuple[Any, ...]:  # so that it crosses a multiprocessing pool whole
        return type(self), (self.message, self.hint, self.kind)


class InvalidError(MusterError):
    """The request cannot be right: change it."""

    kind = "invalid"


class UnauthorizedError(MusterError):
    """The server does not know this process's key: its session has ended, or belongs to another server."""

    kind = "unauthorized"


class NotFoundError(MusterError):
    """There is no such thing, or it belongs to another session."""

    kind = "not_found"


class ConflictError(MusterError):
    """It is not possible in the present state."""

    kind = "conflict"


class NoCapacityError(MusterError):
    """It can never fit on this machine."""

    kind = "no_capacity"


class UnavailableError(MusterError):
    """The server, or something that it needs, cannot be reached right now."""

    kind = "unavailable"


class ServerDownError(UnavailableError):
    """Nothing answers at the server's address, or the server went away before it answered."""


class InternalError(MusterError):
    """A mistake in the server."""

    kind = "internal"


class NoSessionError(MusterError):
    """This process runs in no session."""

    kind = "no_session"


class VersionError(MusterError):
    """The server speaks another version of the API."""

    kind = "version"


class BadReplyError(MusterError):
    """What answers is no Muster server, or one that answers rubbish."""

    kind = "bad_reply"


# Those that say that nobody decided on the request, or that nobody ever will for this process: launch_workers raises them.
# All others are a server's refusal.
NO_ANSWER = (NoSessionError, UnauthorizedError, VersionError, BadReplyError, ServerDownError)

_KINDS: Dict[str, Type[MusterError]] = {
    c.kind: c
    for c in (
        InvalidError,
        UnauthorizedError,
        NotFoundError,
        ConflictError,
        NoCapacityError,
        UnavailableError,
        InternalError,
    )
}


def of_kind(kind: str, message: str, hint: str) -> MusterError:
    """Return the exception for an error that the server told; a kind that is not known gives the base class."""
    return _KINDS.get(kind, MusterError)(message, hint, kind)
