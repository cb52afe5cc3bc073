"""The IPython that runs the magics of a script. Loaded by _dialect.py when a script needs it: importing IPython costs 0.4 s.

No history, no configuration, nothing left in the home folder. Its commands go through _shell.py. It shows no exception by
itself: what a script does not catch ends it.
"""

import atexit
import builtins
import shutil
import sys
import tempfile

from IPython.core import page
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

_commands = None  # _shell.py as a module


class _Shell(InteractiveShell):
    def init_virtualenv(self):
        pass  # the interpreter was chosen before

    def init_path(self):
        pass  # sys.path begins with the project

    def enable_gui(self, gui=None):
        pass  # there is no window to show anything in

    def system(self, cmd):
        frame = sys._getframe(1)
        self.user_ns["_exit_code"] = _commands.run(_commands.expand(cmd, self._names(frame)))

    system_raw = system_piped = system

    def getoutput(self, cmd, split=True, depth=0):
        lines = _commands.capture(_commands.expand(cmd, self._names(sys._getframe(depth + 1))))
        return lines if split else lines.n

    def _names(self, frame):
        return dict(self.user_ns, **frame.f_locals)

    def showtraceback(self, exc_tuple=None, *args, **kwargs):
        error = exc_tuple[1] if exc_tuple else sys.exc_info()[1]
        if error is None:
            super().showtraceback(exc_tuple, *args, **kwargs)
        else:
            raise error

    def showsyntaxerror(self, *args, **kwargs):
        self.showtraceback()


def start(module, commands):
    """Return an IPython whose scripts run in module."""
    global _commands
    _commands = commands
    folder = tempfile.mkdtemp(prefix="ipython-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor"
    before = sys.path[:]
    shell = _Shell.instance(config=config, user_module=module, user_ns=module.__dict__, ipython_dir=folder)
    sys.path[:] = before
    shell.set_hook("show_in_pager", page.as_hook(page.display_page), 90)
    builtins.get_ipython = shell.get_ipython
    for name in ("exit", "quit"):  # IPython's ask for the end of a prompt, which is not there
        if hasattr(builtins, name):
            module.__dict__[name] = getattr(builtins, name)
        else:
            module.__dict__.pop(name, None)
    return shell
