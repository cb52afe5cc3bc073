"""Whether this process belongs to a session, and what to do where it does not: it becomes one.

In an engine, and in what a session's process starts, the environment says it all. Anywhere else ``import cdsw`` or ``cml``
makes the process a session (scripts read CDSW_IP_ADDRESS right afterwards), ``import muster`` the first call. What that
takes is in ``_attach``, and is imported only there: an engine must not pay for it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ._follow import Follower

# Shows what workers print, in a process that became a session by itself.
follower: Optional[Follower] = None

# The process that became a session, in its environment and that of what it starts.
OWNER = "MUSTER_ATTACHED"


def belongs() -> bool:
    """Report whether the environment names a session. One whose process has ended is none: what it started may live on."""
    if not os.environ.get("MUSTER_URL"):
        return False
    owner = os.environ.get(OWNER, "")
    if not owner.isdigit() or int(owner) == os.getpid():
        return True
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or too large a number
        pass
    return True


def silent() -> bool:
    """Report whether this process is a session, and nobody in it shows the console: it was another program until now."""
    return follower is None and os.environ.get(OWNER) == str(os.getpid())


def ready() -> None:
    """Make this process a session if it belongs to none. Raises NoSessionError."""
    if not belongs():
        from . import _attach

        _attach.attach()
    elif silent():
        from . import _attach

        _attach.resume()


def at_import() -> None:
    """Be ready, but let the first call raise what goes wrong: libraries import ``cdsw`` only to see whether it is there."""
    if belongs() and not silent() or os.environ.get("MUSTER_ATTACH") == "off":
        return
    from . import _errors

    try:
        ready()
    except _errors.MusterError as e:
        print("muster: %s" % e, file=sys.stderr, flush=True)
