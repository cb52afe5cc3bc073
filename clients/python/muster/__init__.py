"""Launch, list, await, stop and restart the workers of a Muster session, and read what they print.

The documented home of the functions that existing scripts import as ``cdsw`` or ``cml.workers_v1``. They work in every
process that runs in a session: in the session's own engine, in its workers, and in what these start.

Importing this package must stay cheap (every ``import cdsw`` pays for it): it loads the signatures and nothing else. What
the calls need, ``http.client`` and ``json`` among it, is loaded by the first call, the exceptions when they are named.
"""

from _muster._version import __version__
from _muster._workers import (
    await_workers,
    get_auth,
    launch_workers,
    list_workers,
    restart_workers,
    stop_workers,
    track_file,
    track_metric,
    worker_logs,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _muster._errors import (
        BadReplyError,
        ConflictError,
        InternalError,
        InvalidError,
        MusterError,
        NoCapacityError,
        NoSessionError,
        NotFoundError,
        ServerDownError,
        UnauthorizedError,
        UnavailableError,
        VersionError,
    )
    from _muster._stopped import StopResponse

__all__ = [
    "BadReplyError",
    "ConflictError",
    "InternalError",
    "InvalidError",
    "MusterError",
    "NoCapacityError",
    "NoSessionError",
    "NotFoundError",
    "ServerDownError",
    "StopResponse",
    "UnauthorizedError",
    "UnavailableError",
    "VersionError",
    "__version__",
    "await_workers",
    "get_auth",
    "launch_workers",
    "list_workers",
    "restart_workers",
    "stop_workers",
    "track_file",
    "track_metric",
    "worker_logs",
]


def __getattr__(name):  # type: (str) -> object  # this file is valid in every Python, as _muster is
    if name == "StopResponse":
        from _muster._stopped import StopResponse

        return StopResponse
    if name in __all__:
        from _muster import _errors

        return getattr(_errors, name)
    raise AttributeError("module 'muster' has no attribute %r" % name)
