"""End an interpreter that was forked, and leave alone what it shares with its zygote.

Python ends by emptying all modules. In a child of a zygote that copies every page which the modules are in: with pandas 30 MB and 40 ms
for objects whose end nobody can see. So here only what the work has made is ended, as Python does it and in its order, and exit(3)
lets C libraries say their last words. Where that might not be all, Python goes its whole way.
"""

import _signal
import atexit
import builtins
import ctypes
import gc
import io
import os
import sys
import weakref

# How many functions Py_AtExit takes: NEXITFUNCS of CPython's pycore_pylifecycle.h and pycore_runtime.h, the same from 3.7 to 3.14.
LAST_FUNCTIONS = 32

# Modules that make more interpreters, each with an end of its own.
INTERPRETERS = ("_xxsubinterpreters", "_interpreters")

GENERATOR = type(_ for _ in ())

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

# What takes from the interpreter what the work has made, in two parts. Each is one line of a file "sys", because that is where Python says
# that it is when it warns of what it finds then.
def _line(*steps):
    code = compile("; ".join(steps), "sys", "exec")
    return code.replace(co_filename="<sys>", co_firstlineno=0) if sys.version_info >= (3, 13) else code


FORGET = _line(
    "gc.isenabled() and gc.collect()",
    "[setattr(sys, name, None) for name in names if hasattr(sys, name)]",
    "[setattr(sys, name, getattr(sys, '__%s__' % name, None)) for name in ('stdin', 'stdout', 'stderr')]",
    "[sys.modules.__setitem__(name, None) for name in list(sys.modules)]",
    "sys.modules.clear()",
    "added = dict(builtins)",
    "builtins.clear(), builtins.update(known)",
    "added.clear()",
    "gc.collect()",
)
# As _PyModule_ClearDict does in those modules that something holds: private names first, and what is built in stays.
EMPTY = _line(
    "[d.__setitem__(name, None) for d in own for name in list(d) if name[:1] == '_' != name[1:2]]",
    "[d.__setitem__(name, None) for d in own for name in list(d) if name != '__builtins__']",
    "own.clear()",
    "gc.collect()",
)

held = set()  # the numbers (id) of the zygote's modules
kept = []  # what it has in sys, for nobody to take to pieces
known = {}  # what is built in, as it was before anybody added to it
seen = [[]]  # what the collector sees as long as nobody hides objects from it
noisy = []  # of the zygote's objects, those that would notice their end: nobody may take the short way then


def share():
    """Take all modules for such as children share. In the zygote, when it has imported all."""
    kept.extend(getattr(sys, name, None) for name in SYS_NAMES)
    for name, value in builtins.__dict__.items():
        if name[:2] == "__" or getattr(value, "__module__", "builtins") == "builtins":  # open is of io, exit of site
            known[name] = value
    quiet = [sys.stdin, sys.stdout, sys.stderr]
    quiet += [stream.buffer for stream in quiet if stream is not None]
    quiet += [getattr(stream, "raw", None) for stream in quiet]
    held.update(map(id, sys.modules.values()))
    held.update((id(sys), id(builtins)))
    things = gc.get_objects()
    kinds = {id(kind) for kind in _kinds(things) if kind not in (io.BytesIO, io.StringIO) and _notices(kind)}
    noisy.extend(
        thing
        for thing in things
        if id(type(thing)) in kinds and not any(thing is stream for stream in quiet)
        # The tracker itself ends when its pipe does, which is with this process.
        if type(thing).__module__ != "multiprocessing.resource_tracker"
    )


def rehearse():
    """Go through what an end goes through: whoever shares pages copies them now, and has nothing to copy then."""
    seen[0] = []
    _simple()
    _modules()
    gc.collect()
    _is_left()


def leave(code):
    """End this process with the code that the work has left with, or None. Return where Python is to do that, in its whole length."""
    try:
        short = _simple() and _ended()
    except BaseException:  # a stream that is closed or full, for one: Python knows what to say of it
        short = False
    if short:
        ctypes.pythonapi.exit((code or 0) & 0xFF)
    whole_length()


def whole_length():
    """Have Python end all there is, whatever that copies."""
    del kept[:], noisy[:]
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()


def _ended():
    """End what the work has made, and report whether that was all."""
    for stream in _streams():  # as Python does after each script
        try:
            stream.flush()
        except Exception:
            pass
    _call_last()
    if not all(type(thing) is GENERATOR and thing.gi_frame is None for thing in noisy):  # it may just have been ended
        return False
    for stream in _streams():
        if not stream.closed:
            stream.flush()
    modules, emptied = _modules(), False
    try:
        emptied = _emptied(modules)
    finally:
        if not emptied:
            _put_back(modules)
    return emptied


def _emptied(modules):
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # of which Python forgets first
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    exec(FORGET, {"__name__": "sys", "sys": sys, "gc": gc, "names": SYS_NAMES, "builtins": builtins.__dict__, "known": known})
    if _is_left():
        return False
    own = [m for m in (module() for _, module in reversed(modules)) if m is not None and id(m) not in held]
    own = [object.__getattribute__(m, "__dict__") for m in own]  # some load themselves when somebody asks
    exec(EMPTY, {"__name__": "sys", "gc": gc, "own": own})
    for stream in _streams():  # into which the last of them may have written
        try:
            stream.flush()
        except Exception:
            pass
    return _simple() and not _is_left() and not _has_last_functions()


def _put_back(modules):
    """Make sys.modules what it was, as far as it is still there. A stream that has lost its file is for nobody to flush."""
    for name, module in modules:
        module = module()
        if module is not None:
            sys.modules[name] = module
    for name in "stdout", "stderr":
        try:
            getattr(sys, name).flush()
        except Exception:
            setattr(sys, name, None)


def _streams():
    return [stream for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None)) if stream is not None]


def _modules():
    """Return names and weak references of all modules, in the order of their import."""
    return [(name, weakref.ref(m)) for name, m in sys.modules.items() if isinstance(m, type(sys))]


def _call_last():
    """Call what is to be called at the end. Python does so again, if it comes to that, and finds that it is done."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # there are no other threads to wait for
    try:
        atexit._run_exitfuncs()
    except BaseException:  # before Python 3.10: it has been shown
        pass


def _simple():
    """Report whether there is nothing that makes an end more than Python's usual one.

    Another thread might want the interpreter, in which it may run nothing more, while a library's last words wait for that thread. A tracer
    would see this file. Python forgets handlers of signals before it ends modules.
    """
    if sys.version_info < (3, 8):  # where threading cannot be shut down twice
        return False
    if len(os.listdir("/proc/self/task")) > 1 or any(name in sys.modules for name in INTERPRETERS):
        return False
    if sys.gettrace() or sys.getprofile() or gc.get_debug() or gc.callbacks or sys.flags.dev_mode or sys.flags.inspect:
        return False
    handlers = (_signal.getsignal(number) for number in range(1, _signal.NSIG))
    return not any(callable(handler) and handler is not _signal.default_int_handler for handler in handlers)


def _is_left():
    """Report whether the work has made something that is still there and would notice its end, as a file or a class with __del__ does."""
    visible = gc.get_objects()
    if not any(thing is seen[0] for thing in visible):
        return True  # it has hidden some
    return any(map(_notices, _kinds(visible)))


def _kinds(things):
    return {id(kind): kind for kind in map(type, things)}.values()


def _notices(kind):
    """Report whether objects of that type have a __del__. Its own type is not asked, which might be anything."""
    of = type.__getattribute__
    return any("__del__" in of(base, "__dict__") for base in of(kind, "__mro__"))


def _has_last_functions():
    """Report whether an extension wants to be called at Python's very end, as mpi4py does: a place for that is taken then."""
    nothing = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p)  # harmless, at whatever time
    free = 0
    while free <= LAST_FUNCTIONS and ctypes.pythonapi.Py_AtExit(nothing) == 0:
        free += 1
    return free != LAST_FUNCTIONS
