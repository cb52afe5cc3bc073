"""What the arguments of the calls may be, and the request bodies made of them.

Numbers are checked here, before anything is sent; all else is for the server to refuse. What cannot even be put into a
request, such as a script name that is no text, is a Refusal: the caller makes the same refused descriptions of it as of a
refusal by the server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ._errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

MAX_WORKERS = 10_000
MAX_RETRIES = 1000
MAX_LINES = 100_000
_TEN_YEARS = 10 * 365 * 86400

# A number of seconds beyond which a timeout is none: about thirty years.
_NEVER = 1e9


# Of ids, and of their beginnings that labels show.
_ID_LENGTHS = (16, 8)


class Refusal(Exception):
    """An argument that no server could accept."""


def number(name: str, value: Any) -> float:
    """Return value as an int or float. TypeError or ValueError if it is none that a request can carry."""
    if isinstance(value, bool) or value is None:
        raise TypeError("%s must be a number, not %r" % (name, value))
    if isinstance(value, int):
        return value
    if isinstance(value, (str, bytes)):
        try:
            f = float(value)
        except ValueError:
            raise ValueError("%s must be a number, not %r" % (name, value)) from None
    else:
        try:
            f = float(value)
        except OverflowError:
            raise ValueError("%s is out of range: %r" % (name, value)) from None
        except (TypeError, ValueError):
            raise TypeError("%s must be a number, not %s" % (name, type(value).__name__)) from None
    if f != f or f in (float("inf"), float("-inf")):
        raise ValueError("%s must be a finite number, not %r" % (name, value))
    return int(f) if f.is_integer() else f


def count(value: Any) -> int:
    """Return the number of workers to launch."""
    n = number("n", value)
    if not isinstance(n, int):
        raise ValueError("n must be a whole number, not %r" % (value,))
    if n < 0 or n > MAX_WORKERS:
        raise ValueError("n must be from 0 to %d, not %r" % (MAX_WORKERS, value))
    return n


def timeout(value: Any) -> float:
    """Return a timeout in seconds; 0 means none."""
    if value is None or value == float("inf"):
        return 0
    seconds = number("timeout_seconds", value)
    if seconds < 0:
        raise ValueError("timeout_seconds must not be negative: %r (0 means no timeout)" % (value,))
    return 0 if seconds > _NEVER else seconds


def retries(value: Any) -> int:
    """Return how often a worker is tried again."""
    n = number("retries", value)
    if not isinstance(n, int) or n < 0 or n > MAX_RETRIES:
        raise ValueError("retries must be a whole number from 0 to %d, not %r" % (MAX_RETRIES, value))
    return n


def time_limit(value: Any) -> float:
    """Return how long a worker may run; 0: as long as it likes."""
    if value is None:
        return 0
    seconds = number("timeout_seconds", value)
    if seconds <= 0 or seconds > _TEN_YEARS:
        raise ValueError("timeout_seconds must be above 0 and at most ten years: %r (None means no time limit)" % (value,))
    return seconds


def group(value: Any, others: bool = False) -> str:
    """Return the name of a group, "" for none; others: workers are named besides."""
    if value is None:
        return ""
    if others:
        raise ValueError("workers are named by ids or by a group, and both were given: group=%r" % (value,))
    if not isinstance(value, str):
        raise TypeError("group must be text, not %s" % type(value).__name__)
    if not value:
        raise ValueError("group must not be empty (None means none)")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as e:
        raise ValueError("group is not UTF-8: %s" % e) from None
    return value


def tail(value: Any) -> int:
    """Return a number of lines."""
    n = number("tail", value)
    if not isinstance(n, int) or n < 1 or n > MAX_LINES:
        raise ValueError("tail must be a whole number of lines from 1 to %d, not %r (None means all)" % (MAX_LINES, value))
    return n


def environment(value: Any) -> Dict[str, str]:
    """Return env as a dict of text. Older code passes None, "" or [] where it means nothing."""
    if value is None or (isinstance(value, (str, bytes, list, tuple)) and len(value) == 0):
        return {}
    if not (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        raise TypeError("env must be a dict of names and values, not %s" % type(value).__name__)
    env = {}
    for key in value.keys():
        if not isinstance(key, str):
            raise TypeError("env: a name must be text, not %r" % (key,))
        if not key or "=" in key or "\0" in key:
            raise ValueError("env: %r cannot be the name of a variable: it is empty or holds '=' or NUL" % (key,))
        env[key] = _env_text(value[key])
    return env


def _env_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bytes, os.PathLike)):
        return os.fsdecode(value)
    return str(value)


def is_mapping(value: Any) -> bool:
    return isinstance(value, dict) or (hasattr(value, "keys") and hasattr(value, "__getitem__"))


def text(name: str, value: Any) -> str:
    """Return a text argument as the server needs it: UTF-8. None means nothing was given."""
    if value is None:
        return ""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as e:
            raise Refusal("%s is not UTF-8: %s" % (name, e)) from None
    if not isinstance(value, str):
        raise Refusal("%s must be text, not %s" % (name, type(value).__name__))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as e:
        raise Refusal("%s is not UTF-8: %s" % (name, e)) from None
    return str(value)


def kernel(value: Any, script: str) -> str:
    """Return the kernel to ask for: an explicit one wins, then the script's ending decides, then it is python3.

    It is "" for an ending that is not known here: the server knows what the project's settings say of it.
    """
    if value:
        return text("kernel", value)
    ending = os.path.splitext(script)[1].lower()
    return {".r": "r", ".scala": "scala", ".py": "python3", "": "python3"}.get(ending, "")


def worker_ids(ids: Any) -> Tuple[List[str], List[Dict[str, Any]]]:
    """Take ids as callers write them: an id, a description, or an iterable (also nested) of these.

    Returns the ids, and the descriptions that have none: those of refused workers.
    """
    found: List[str] = []
    refused: List[Dict[str, Any]] = []
    _collect(ids, found, refused)
    return found, refused


def worker_id(item: Any) -> str:
    """Return the id of the one worker that item names."""
    while isinstance(item, (list, tuple)) and len(item) == 1:
        item = item[0]
    if isinstance(item, (bytes, bytearray)):
        raise TypeError("a worker is named by its id or description, not %s" % type(item).__name__)
    found, refused = worker_ids(item)
    if refused:
        raise ValueError("this worker has no id: " + str(refused[0].get("message") or "this is no worker's description"))
    if len(found) != 1:
        raise TypeError("one worker must be named, not %d" % len(found))
    if not found[0]:
        raise ValueError("a worker's id must not be empty")
    session = os.environ.get("CDSW_MASTER_ID") or os.environ.get("CDSW_ENGINE_ID", "")
    if len(found[0]) not in _ID_LENGTHS or session.startswith(found[0]):
        raise NotFoundError("no worker of this session has the id %.60r" % found[0], "list_workers() tells which there are")
    return found[0]


def _collect(item: Any, found: List[str], refused: List[Dict[str, Any]]) -> None:
    if isinstance(item, str):
        found.append(item)
    elif isinstance(item, bytes):
        found.append(item.decode("utf-8", "replace"))
    elif item is None:
        refused.append({"message": "None is no worker's id"})
    elif isinstance(item, bool):
        raise TypeError("a worker is named by its id or description, not %r" % item)
    elif isinstance(item, int):  # the manual says ids are ints
        found.append(str(item))
    elif isinstance(item, Mapping):  # and no Series of ids, which has keys too
        if item.get("id"):
            _collect(item["id"], found, refused)
        else:
            refused.append(item)
    elif hasattr(item, "__iter__"):
        for i in item:
            _collect(i, found, refused)
    else:
        raise TypeError("a worker is named by its id or description, not %s" % type(item).__name__)
