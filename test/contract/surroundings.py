import cdsw, os
ws = cdsw.launch_workers(1, 0.2, 0.1, code="""
import os, sys
print(__name__, os.getcwd() == sys.path[0] == %r, os.path.expanduser("~/.local/bin") in os.environ["PATH"].split(":"))
open("left-here", "w").write("by the worker")
open("/tmp/private", "w").write("x")
""" % os.getcwd())
assert not cdsw.await_workers(ws)["failures"]
assert open("left-here").read() == "by the worker" and not os.path.exists("/tmp/private")
# prints: __main__ True True
