import os

os.environ["MUSTER_ATTACH"] = "off"  # a test that imports cdsw is not to start a server

from _muster import _away

# The tests of what waits for a server set their own.
_away.PATIENCE_SECONDS = 0.0
