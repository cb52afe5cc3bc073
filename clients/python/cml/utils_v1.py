"""What libraries look up beside the four calls."""

from __future__ import annotations

from _muster._workers import get_auth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["_emulate_cdsw", "get_auth"]


def _emulate_cdsw() -> ModuleType:
    """Return an object that looks like the module ``cdsw``; here it is that module."""
    import cdsw

    return cdsw
