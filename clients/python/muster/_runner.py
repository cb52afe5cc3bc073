"""Run a script or code in an engine as plain Python would have run it.

    python -u _runner.py script PATH [ARGUMENT...]    PATH is relative to the working directory, or absolute
    python -u _runner.py code PATH [ARGUMENT...]      PATH is a file that holds the code, UTF-8

What it adds to plain Python: sys.path begins with the working directory (the project folder) wherever the script lies;
code shows its lines in tracebacks, under the name <code>, and may be indented as a whole. What is run sees a fresh
__main__, and nothing of this file: not in its globals, not in its tracebacks.

Valid in Python 2.7 and from 3.6 on, because every kernel is started through it. Imports nothing but sys and os before it
hands over, so that it costs no start time.
"""

import os
import sys

CODE_NAME = "<code>"

# Seconds in the life of a process for which a refused connect to the master is tried again, and between two tries.
RETRY_SECONDS = 30.0
RETRY_PAUSE = 0.05


def main(argv):
    """Run what argv asks for. Returns normally, or ends the process as plain Python would."""
    if len(argv) < 3 or argv[1] not in ("script", "code"):
        sys.exit("usage: _runner.py script|code PATH [ARGUMENT...]")
    kind, path, arguments = argv[1], argv[2], argv[3:]
    _set_path()
    try:
        with open(path, "rb") as f:
            source = f.read()
    except (IOError, OSError) as e:
        sys.stderr.write("python: can't open file %r: %s\n" % (path, e))
        sys.exit(2)
    if kind == "script":
        sys.argv[:] = [path] + arguments
        name = os.path.abspath(path)
    else:
        sys.argv[:] = [""] + arguments
        name = CODE_NAME
        source = _code_source(source)
    if os.environ.get("MUSTER_CONNECT_RETRY") == "1":
        _retry_connects()
    _run(_fresh_main(kind == "script" and name), source, name)


def _set_path():
    """Put the working directory where Python put the folder of this file."""
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == here:
        del sys.path[0]
    sys.path.insert(0, os.getcwd())


def _fresh_main(script):
    """Return a module __main__ that looks like the one of a script (its path), or of code (False)."""
    module = type(sys)("__main__")
    builtins = sys.modules.get("builtins") or sys.modules["__builtin__"]
    module.__builtins__ = builtins
    module.__package__ = None
    own = sys.modules["__main__"]
    if hasattr(own, "__annotations__") and "__annotations__" in own.__dict__:
        module.__annotations__ = {}
    if script:
        module.__file__ = script
        if hasattr(own, "__cached__"):
            module.__cached__ = None
        if getattr(own, "__loader__", None) is not None:
            module.__loader__ = type(own.__loader__)("__main__", script)
    sys.modules["__main__"] = module
    return module


def _run(module, source, name, own=sys.modules["__main__"]):
    # own keeps this module alive: Python 2 empties the globals of a module that nobody holds.
    try:
        code = compile(source, name, "exec", 0, True)
        exec(code, module.__dict__)
    except SystemExit:
        raise
    except BaseException:
        kind, error, trace = sys.exc_info()
        while trace is not None and trace.tb_frame.f_code.co_filename == own._run.__code__.co_filename:
            trace = trace.tb_next
        _show(kind, error, trace, name)
        if kind is KeyboardInterrupt:  # plain Python ends as the signal would have ended it: so let it see it
            sys.excepthook = lambda *ignored: None
            raise
        sys.exit(1)


def _show(kind, error, trace, name):
    """Show an exception that nobody caught, without the frames of this file."""
    if hasattr(error, "with_traceback"):
        error = error.with_traceback(trace)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    if name != CODE_NAME or sys.excepthook is not sys.__excepthook__:
        sys.excepthook(kind, error, trace)
        return
    # Before Python 3.13 the built-in hook looks for the lines of <code> on disk.
    import traceback

    traceback.print_exception(kind, error, trace)


def _code_source(source):
    """Return code as compile needs it, and let tracebacks find its lines."""
    if source.startswith(b"\xef\xbb\xbf"):
        source = source[3:]
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as e:
        sys.exit("the code is not UTF-8: %s" % e)
    text = _dedent(text.replace("\r\n", "\n"))
    import linecache

    # No time of change: linecache then never looks for the file.
    native = text if str is not bytes else text.encode("utf-8")
    linecache.cache[CODE_NAME] = (len(text), None, [line + "\n" for line in native.split("\n")], CODE_NAME)
    if str is not bytes:
        return text
    head = native.split(b"\n")[:2]
    # Python 2 takes bytes for ASCII unless told otherwise, by a cookie or by this mark.
    return native if any(b"coding" in line for line in head) else b"\xef\xbb\xbf" + native


def _dedent(text):
    """Take the indentation of the first line of code away from all lines that have it."""
    lines = text.split("\n")
    for line in lines:
        bare = line.lstrip(" \t")
        if bare and not bare.startswith("#") and bare != "\r":
            indent = line[: len(line) - len(bare)]
            break
    else:
        return text
    if not indent:
        return text
    return "\n".join([line[len(indent) :] if line.startswith(indent) else line for line in lines])


def _retry_connects():
    """Let a connect that the master refuses be tried again while this process is young.

    A master may launch its workers first and bind its port then. Where the network cannot bridge that, this does.
    """
    import errno
    import socket
    import time

    masters = [os.environ[v] for v in ("CDSW_MASTER_IP", "CML_MASTER_IP") if os.environ.get(v)]
    clock = getattr(time, "monotonic", time.time)
    end = clock() + RETRY_SECONDS
    connect = socket.socket.connect

    def patient_connect(self, address):
        timeout = self.gettimeout()
        patient = isinstance(address, tuple) and address and address[0] in masters and timeout != 0
        last = end if timeout is None else min(end, clock() + timeout)
        # After a refusal, the kernel answers the next try on a socket with a timeout with "aborted", once.
        again = (errno.ECONNREFUSED, errno.ECONNABORTED)
        while True:
            try:
                return connect(self, address)
            except (OSError, socket.error) as e:
                if not patient or e.errno not in again or clock() + RETRY_PAUSE >= last:
                    if e.errno == errno.ECONNABORTED:
                        e = socket.error(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                    raise e
            time.sleep(RETRY_PAUSE)

    patient_connect.__name__ = "connect"
    patient_connect.__doc__ = connect.__doc__
    socket.socket.connect = patient_connect


if __name__ == "__main__":
    main(sys.argv)
