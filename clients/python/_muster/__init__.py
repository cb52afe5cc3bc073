"""What ``muster``, ``cdsw`` and ``cml`` are made of, under a name that no project's own module has.

Valid in every Python, so that an old one is told what is needed, by the error that ``try: import cdsw`` expects.
"""

import sys

if sys.version_info < (3, 8):
    raise ImportError("Muster's packages (muster, cdsw, cml) need Python 3.8 or newer, and this is Python %d.%d" % sys.version_info[:2])
