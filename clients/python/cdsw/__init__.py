"""The functions of ``muster`` under the name that scripts for Cloudera Data Science Workbench import."""

from muster import (
    __version__,
    await_workers,
    get_auth,
    launch_workers,
    list_workers,
    stop_workers,
    track_file,
    track_metric,
)

__all__ = [
    "__version__",
    "await_workers",
    "get_auth",
    "launch_workers",
    "list_workers",
    "stop_workers",
    "track_file",
    "track_metric",
]
