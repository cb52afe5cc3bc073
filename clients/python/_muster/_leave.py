"""End an interpreter that was forked, and leave alone what it shares with its zygote.

Python ends by emptying all modules. In a child of a zygote that copies every page which the modules are in: with pandas 30 MB and 40 ms
for objects whose end nobody can see. So here only what the work has made is ended, as Python does it and in its order, and exit(3)
lets C libraries say their last words. Where that might not be all, Python goes its whole way.
"""

import atexit
import builtins
import ctypes
import gc
import sys
import weakref

# How many functions Py_AtExit takes: NEXITFUNCS of CPython's pycore_pylifecycle.h and pycore_runtime.h, the same from 3.7 to 3.14.
LAST_FUNCTIONS = 32

# What Python takes from sys first: finalize_modules_delete_special in its pylifecycle.c.
SYS_NAMES = (
    "path",
    "argv",
    "ps1",
    "ps2",
    "last_exc",
    "last_type",
    "last_value",
    "last_traceback",
    "path_hooks",
    "path_importer_cache",
    "meta_path",
    "__interactivehook__",
)

# What takes from the interpreter what the work has made. It is one line of a file "sys" because that is where Python says that it is when
# it warns of what it finds then.
END = compile(
    "; ".join(
        (
            "gc.isenabled() and gc.collect()",
            "[setattr(sys, name, None) for name in names if hasattr(sys, name)]",
            "[setattr(sys, name, getattr(sys, '__%s__' % name, None)) for name in ('stdin', 'stdout', 'stderr')]",
            "[sys.modules.__setitem__(name, None) for name in list(sys.modules)]",
            "sys.modules.clear()",
            "builtins.clear(), builtins.update(known)",
            "gc.collect()",
            # As _PyModule_ClearDict does in those modules that something holds: private names first, and what is built in stays.
            "own = [m.__dict__ for m in [m() for m in reversed(own)] if m is not None]",
            "[d.__setitem__(name, None) for d in own for name in list(d) if name[:1] == '_' != name[1:2]]",
            "[d.__setitem__(name, None) for d in own for name in list(d) if name != '__builtins__']",
            "del own",
            "gc.collect()",
        )
    ),
    "sys",
    "exec",
)
if sys.version_info >= (3, 13):
    END = END.replace(co_filename="<sys>", co_firstlineno=0)

shared = {}  # the zygote's modules
kept = []  # what it has in sys, for nobody to take to pieces
known = {}  # what is built in, as it was before anybody added to it


def share():
    """Take all modules for such as children share. In the zygote, when it has imported all."""
    shared.update(sys.modules)
    kept.extend(getattr(sys, name, None) for name in SYS_NAMES)
    for name, value in builtins.__dict__.items():
        if name[:2] == "__" or getattr(value, "__module__", "builtins") == "builtins":  # open is of io, exit of site
            known[name] = value


def rehearse():
    """Go through what an end goes through: whoever shares pages copies them now, and has nothing to copy then."""
    _simple()
    for module in list(sys.modules.values()):
        weakref.ref(module)
    gc.collect()
    _is_left()


def leave(code):
    """End this process with the code that the work has left with, or None. Return where Python is to do that, in its whole length."""
    if not _simple():
        whole_length()
        return
    for stream in (sys.stderr, sys.stdout):  # as Python does after each script
        try:
            stream.flush()
        except Exception:
            pass
    _call_last()
    try:
        _flush()
        names = {"names": SYS_NAMES, "own": _own_modules(), "builtins": builtins.__dict__, "known": known}
        exec(END, dict(names, __name__="sys", sys=sys, gc=gc))
        _flush()
        whole = not _simple() or _is_left() or _has_last_functions()
    except BaseException:  # a stream that is closed or full, for one: Python knows what to say of it
        whole = True
    if whole:
        whole_length()
        return
    ctypes.pythonapi.exit((code or 0) & 0xFF)


def whole_length():
    """Have Python end all there is, whatever that copies."""
    sys.modules.update(shared)
    del kept[:]
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()


def _call_last():
    """Call what is to be called at the end. Python does so again, if it comes to that, and finds that it is done."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # there are no other threads to wait for
    try:
        atexit._run_exitfuncs()
    except BaseException:  # before Python 3.10: it has been shown
        pass


def _simple():
    """Report whether there is nothing that makes an end more than Python's usual one."""
    if sys.version_info < (3, 8):  # where threading cannot be shut down twice
        return False
    return len(sys._current_frames()) == 1 and not (sys.flags.dev_mode or sys.flags.inspect or gc.get_debug() or gc.callbacks)


def _flush():
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _own_modules():
    return [weakref.ref(m) for name, m in sys.modules.items() if m is not shared.get(name) and isinstance(m, type(sys))]


def _is_left():
    """Report whether the work has made something that is still there and would notice its end, as a file or a class with __del__ does."""
    return any(hasattr(kind, "__del__") for kind in set(map(type, gc.get_objects())))


def _has_last_functions():
    """Report whether an extension wants to be called at Python's very end, as mpi4py does: a place for that is taken then."""
    nothing = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p)  # harmless, at whatever time
    free = 0
    while free <= LAST_FUNCTIONS and ctypes.pythonapi.Py_AtExit(nothing) == 0:
        free += 1
    return free != LAST_FUNCTIONS
