"""The functions of ``muster`` under the name that scripts for Cloudera Data Science Workbench import."""

from _muster._session import at_import
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

__all__ = [
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

at_import()
del at_import
