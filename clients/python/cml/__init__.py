"""The functions of ``muster`` under the names that scripts for Cloudera Machine Learning import."""

from _muster._session import at_import
from _muster._version import __version__
from _muster._workers import await_workers, launch_workers, list_workers, stop_workers

from . import utils_v1, workers_v1  # ``import cml`` is enough for ``cml.workers_v1.launch_workers``

__all__ = ["__version__", "await_workers", "launch_workers", "list_workers", "stop_workers", "utils_v1", "workers_v1"]

at_import()
del at_import
