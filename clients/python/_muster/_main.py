"""What a process that multiprocessing spawned imports as its __main__, where the script is not plain Python.

A child of spawn or forkserver runs the file of the script again, as plain Python. For a script with IPython's syntax, and for
code, which has no file, the runner names this module instead.
"""

from _muster import _runner

_runner.again(globals())
