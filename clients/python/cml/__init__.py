"""The functions of ``muster`` under the names that scripts for Cloudera Machine Learning import."""

from muster import __version__, await_workers, launch_workers, list_workers, stop_workers

__all__ = ["__version__", "await_workers", "launch_workers", "list_workers", "stop_workers"]
