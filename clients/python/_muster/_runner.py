"""Run a script or code in an engine as plain Python would have run it.

    python -u _runner.py script PATH [ARGUMENT...]    PATH is relative to the working directory, or absolute
    python -u _runner.py code PATH [ARGUMENT...]      PATH is a file that holds the code, UTF-8
    python -u _runner.py wait FOLDER [MODULE...]      one of these, as said by FOLDER/work, with the modules imported before
    python -u _runner.py fork FOLDER [MODULE...]      import the modules, and fork whenever descriptor 3 asks for it; the children wait

What it adds to plain Python: sys.path begins with the working directory (the project folder) wherever the script lies;
code shows its lines in tracebacks, under the name <code>; both may be indented as a whole, and written in IPython's syntax
(_dialect.py, looked at only if Python refuses the source). What is run sees a fresh __main__, and nothing of this file: not
in its globals, not in its tracebacks.

Valid in Python 2.7 and from 3.6 on, because every kernel is started through it. Imports nothing but sys and os before it
hands over, so that it costs no start time.
"""

import os
import sys

CODE_NAME = "<code>"
HERE = os.path.dirname(os.path.abspath(__file__))

# Tells a spawned child which file is its main one, and of which kind: "code" or "script", a colon, the path.
MAIN_VARIABLE = "MUSTER_MAIN"

# How an interpreter ends that declines its work because of files that were changed: so do all that are as old.
STALE = 65

# Modules that nobody asked for by name: the server's, from what the code imports.
LEARNED = "numpy", "pandas", "scipy"

# Variables that say how many threads libraries start: kernel.ThreadVariables.
THREADS = (
    b"OMP_NUM_THREADS", b"OPENBLAS_NUM_THREADS", b"GOTO_NUM_THREADS", b"MKL_NUM_THREADS", b"BLIS_NUM_THREADS", b"NUMEXPR_NUM_THREADS",
    b"VECLIB_MAXIMUM_THREADS", b"PYTHON_CPU_COUNT", b"LOKY_MAX_CPU_COUNT", b"POLARS_MAX_THREADS", b"RAYON_NUM_THREADS",
    b"R_PARALLELLY_AVAILABLECORES_FALLBACK",
)  # fmt: skip

# Modules that setuptools, virtualenv and Ubuntu have every interpreter import, by how their names begin.
HOOKS = "__main__", "_distutils_hack", "_virtualenv", "__editable__", "apport_python_hook"

CLOCK_SECONDS = 0.005  # by which the clock of files may be late

# What IPython adds to every script.
IPYTHON_NAMES = ("get_ipython", "display", "__IPYTHON__")


def main(argv):
    """Run what argv asks for. Returns normally, or ends the process as plain Python would."""
    if len(argv) < 3 or argv[1] not in ("script", "code", "wait", "fork"):
        sys.exit("usage: _runner.py script|code PATH [ARGUMENT...] | wait|fork FOLDER [MODULE...]")
    _set_path()
    forked = argv[1] == "fork"
    if argv[1] in ("wait", "fork"):
        argv[1:] = _wait(argv[2], argv[3:], forked)
    kind, path, arguments = argv[1], argv[2], argv[3:]
    try:
        name, source = _read(kind, path)
    except (IOError, OSError) as e:
        sys.stderr.write("python: can't open file %r: %s\n" % (path, e))
        sys.exit(2)
    sys.argv[:] = [path if kind == "script" else ""] + arguments
    if os.environ.get("MUSTER_CONNECT_RETRY") == "1":
        _load("_retry").install()
    module = sys.modules["__main__"] = _fresh_main(kind == "script" and name)
    if kind == "code" and (b"__main__" if isinstance(source, bytes) else "__main__") in source:
        _let_children_import(module, kind, path)  # who guards the main part means to be imported
    if not forked:
        _run(module, source, name, path)
        return
    code = None
    try:
        _run(module, source, name, path)
    except BaseException as e:
        code = getattr(e, "code", e)
        if not isinstance(e, SystemExit) or code is not None and (type(code) is not int or abs(code) > 255):
            _load("_leave").whole_length()
            raise  # for Python to make what it makes of it
    del module, source
    _load("_leave").leave(code)
    raise SystemExit(code)


def _wait(folder, modules, forks):
    """Import modules, then wait for work: return its arguments, with its environment set. Who forks returns in children alone.

    End without having taken it where the modules, or what Python reads when it starts, might be others by now: what they read
    of the environment, or the files that they came from. Then, and without work, somebody else starts an interpreter anew.
    """
    import time

    began = time.time()
    own = not forks and modules or sys.version_info >= (3, 13) or _has_foreign()  # numbers of threads count as they are now
    first = _first_environment()
    changed = [name for name in set(first).union(os.environ._data) if first.get(name) != os.environ._data.get(name)]
    if forks:
        _load("_zygote").limit_threads()
    plain = os.environ._data
    environment = os.environ._data = os.environb._data = _Watched(plain, first, changed)
    environment.all = not set(changed).issubset((b"LC_CTYPE",))  # by sitecustomize, say, and from what it read; Python itself sets that one
    sys.argv[:] = [""]  # not ours, for modules that look
    drawn = modules and _import(folder, modules)
    environment.end()
    own = own or environment.all or not (environment.read | environment.written).isdisjoint(THREADS + (b"CDSW_CPU_MILLICORES",))
    plain.clear()
    plain.update(dict.items(environment))
    os.environ._data = os.environb._data = plain
    _rehearse(environment, [HERE])
    sources, watched = _sources(modules)
    if forks and not drawn:
        watched = _load("_zygote").watch(watched, began)
    sources += watched
    before = _dates(sources)
    if any(date and date[-1] > began - CLOCK_SECONDS for date in before):  # it may have been read before
        if forks:
            os.kill(os.getpid(), 9)  # another one is made
        os._exit(STALE)
    if forks:
        if drawn:
            _tell(folder, modules, "%s draws random numbers when it is imported: each worker imports it itself" % drawn[0])
            os._exit(0)  # it would be the same number in all children
        _load("_leave").share()
        own = _load("_zygote").keeps_threads(environment) or own
        _load("_zygote").serve(folder, own)
        _rehearse(environment, sources)
        _load("_leave").rehearse()
        _kept.extend((environment, sources, before))
    says = os.open(os.path.join(folder, "waits"), os.O_WRONLY)
    work = os.open(os.path.join(folder, "work"), os.O_RDONLY)
    os.write(says, b"wa" if own else b"w")
    parts = []
    while True:
        part = os.read(work, 65536)
        if not part:
            break
        parts.append(part)
    arguments, wanted = _understood(b"".join(parts))
    if not arguments or environment.differ(wanted):
        os._exit(0)
    if own and any(environment.began.get(name) != wanted.get(name) for name in THREADS):
        os._exit(0)
    if _dates(sources) != before or forks and _load("_zygote").changed():
        os._exit(STALE)
    wanted = environment.after(wanted)
    if forks:
        threads = _load("_zygote").threads(wanted)
        if threads is None:
            os._exit(0)
    _set_environment(wanted)
    if forks:
        for setter, number in threads:
            setter(number)
    os.write(says, b"t")
    os.sched_yield()  # who listens was woken on this processor, where it would wait for its turn
    os.close(says)
    os.close(work)
    return arguments


def _import(folder, modules):
    """Import modules. Return who of them drew random numbers; end where they leave what is not for work that does not import them."""
    preload = _load("_preload")
    with preload.Import() as imported:
        for name in modules:
            try:
                __import__(name)
            except Exception as e:  # whoever imports it will meet the same error
                _tell(folder, modules, "%s cannot be imported: %s: %s" % (name, type(e).__name__, e))
    if imported.left:
        _tell(folder, modules, "%s leaves %s behind: workers start without it" % (", ".join(modules), ", ".join(imported.left)))
        os._exit(0)
    return imported.drawn


def _tell(folder, modules, text):
    """Tell people something about modules that they have asked for. The server tells it once."""
    if set(LEARNED).issuperset(modules):
        return
    said = " ".join(("preload: " + text).split()).encode("utf-8", "replace")[:480]
    says = os.open(os.path.join(folder, "waits"), os.O_WRONLY)
    os.write(says, b"n" + said + b"\n")
    os.close(says)


def _first_environment():
    """Return the environment that this process was started with, or, where it may not see that, what it is now."""
    try:
        with open("/proc/self/environ", "rb") as f:
            entries = f.read().split(b"\0")
    except OSError:
        return dict(os.environ._data)
    return dict(entry.split(b"=", 1) for entry in reversed(entries) if b"=" in entry)


def _has_foreign():
    """Report whether a module was imported already that is not Python's own: by a .pth file, say. Those that are in new virtual environments
    only make hooks."""
    library = os.path.dirname(os.__file__) + os.sep
    files = [getattr(m, "__file__", None) for name, m in list(sys.modules.items()) if not name.startswith(HOOKS)]
    return any(f and (not f.startswith(library) or "-packages" + os.sep in f) for f in files)


def _understood(said):
    """Return the arguments and the environment of the work that somebody said; nothing where there is none, or not all of it."""
    words = said.split(b"\0")
    if len(words) < 3 or words[-1] or len(words) - 3 != int(words[0]) + int(words[1]):
        return [], {}
    count, rest = int(words[0]), words[2:-1]
    return [os.fsdecode(word) for word in rest[:count]], dict(entry.split(b"=", 1) for entry in rest[count:])


class _Watched(dict):
    """The environment, which remembers what was read of it, and what was set."""

    def __init__(self, data, began, written):
        dict.__init__(self, data)
        self.began, self.read, self.all = began, set(), False
        self.written, self.set = set(written), {}

    def __getitem__(self, name):
        self.read.add(name)
        return dict.__getitem__(self, name)

    def __setitem__(self, name, value):
        self.written.add(name)
        dict.__setitem__(self, name, value)

    def __delitem__(self, name):
        self.written.add(name)
        dict.__delitem__(self, name)

    def __iter__(self):
        self.all = True
        return dict.__iter__(self)

    def end(self):
        """Note what imports have set: values, or None."""
        self.set = {name: dict.get(self, name) for name in self.written}

    def differ(self, wanted):
        """Report whether something that was read is another thing in wanted. What was set without, does not depend on what it was; but libraries
        that were loaded after it do."""
        names = set(self.began).union(wanted) if self.all else self.read | self.written.intersection(THREADS)
        return any(self.began.get(name) != wanted.get(name) for name in names)

    def after(self, wanted):
        """Return wanted as the imports would have left it."""
        if self.set:
            wanted = {name: value for name, value in wanted.items() if name not in self.set}
            wanted.update((name, value) for name, value in self.set.items() if value is not None)
        return wanted


def _sources(modules):
    """Return the files and folders that the interpreter came from, a folder changes with every installation, and the files of all modules."""
    here = os.getcwd() + os.sep
    paths = _installation()
    installed = tuple(paths)
    if modules:
        paths.update(sys.path[1:])  # the first is the project, where all kinds of files come and go
    for name in modules:
        name = name.partition(".")[0]
        paths.update((here + name, here + name + ".py"))
        path = getattr(sys.modules.get(name), "__file__", None)
        if path:
            paths.update((path, os.path.dirname(path)))
    files = [getattr(m, "__file__", None) for m in list(sys.modules.values())]
    paths.update(f for f in files if f and not f.startswith(installed))  # sitecustomize, and modules of the project
    paths.discard(os.getcwd())
    return sorted(paths), sorted(set(f for f in files if f and modules).difference(paths))


def _installation():
    """Return the folders that packages are installed in, and what else Python reads when it starts: what it is, and .pth files."""
    prefixes = (sys.prefix, sys.base_prefix)
    paths = set(path for path in sys.path[1:] if path.startswith(prefixes))
    site = sys.modules.get("site")
    if hasattr(site, "getsitepackages"):
        paths.update(site.getsitepackages())
        paths.add(site.USER_SITE or sys.prefix)  # also one that is not there yet
    for folder in list(paths):
        try:
            paths.update(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".pth"))
        except OSError:
            pass
    paths.update(os.path.join(prefix, "pyvenv.cfg") for prefix in prefixes)
    return paths


def _dates(paths):
    """Return which files these are, and when they were changed."""
    return [_date(path) for path in paths]


def _date(path):
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size, 0 if state.st_mode & 0o170000 == 0o040000 else state.st_ctime


def _rehearse(environment, sources):
    """Go through what the work will go through, with the environment as it is.

    The first compile of a process takes 0.8 ms longer than the next, and in a fork each page that is written for the first time is copied.
    """
    environ = [name + b"=" + value for name, value in os.environ._data.items()]
    words = [b"2", str(len(environ)).encode(), b"script", os.fsencode(os.path.join(HERE, "_main.py"))] + environ
    (kind, path), wanted = _understood(b"\0".join(words) + b"\0")
    environment.differ(wanted)
    _dates(sources)
    _set_environment(wanted)
    name, source = _read(kind, path)
    module = _fresh_main(name)
    _entry(_code_text(source))
    exec(compile("0\n", CODE_NAME, "exec", 0, True), module.__dict__)


def _set_environment(wanted):
    """Make the environment, of bytes, this one. Not by os.environ's own functions: they decode each variable twice."""
    data = os.environ._data
    for name in set(data).difference(wanted):
        os.unsetenv(name)
    for name, value in wanted.items():
        if data.get(name) != value:
            os.putenv(name, value)
    data.clear()
    data.update(wanted)


def again(names):
    """Run the main script of the parent process in a child that multiprocessing spawned; names are its globals."""
    kind, _, path = os.environ[MAIN_VARIABLE].partition(":")
    name, source = _read(kind, path)
    for extra in ("_runner", "__file__", "__cached__", "__doc__"):
        names.pop(extra, None)
    if kind == "script":
        names["__file__"] = name
    code, dialect = _compile(sys.modules[names["__name__"]], source, name)
    if dialect is None:
        exec(code, names)
    else:
        dialect.run(code, names)


def _let_children_import(module, kind, path):
    os.environ[MAIN_VARIABLE] = kind + ":" + os.path.abspath(path)
    if hasattr(sys, "__spec__"):  # Python 3
        module.__spec__ = type(sys.__spec__)("_muster._main", None)


def _read(kind, path):
    """Return the name that a script or code has in tracebacks, and its source."""
    with open(path, "rb") as f:
        source = f.read()
    if kind == "script":
        return os.path.abspath(path), source
    text = _code_text(source)
    _show_lines(_entry(text))
    return CODE_NAME, text if str is not bytes else _marked(text.encode("utf-8"))


def _set_path():
    """Put the working directory where Python put the folder of this file."""
    if sys.path and os.path.abspath(sys.path[0]) == HERE:
        del sys.path[0]
    sys.path.insert(0, os.getcwd())


def _fresh_main(script):
    """Return a module __main__ that looks like the one of a script (its path), or of code (False)."""
    module = type(os)("__main__")
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
    return module


def _run(module, source, name, path, own=sys.modules["__main__"]):
    # own keeps this module alive: Python 2 empties the globals of a module that nobody holds.
    dialect = None
    try:
        code, dialect = own._compile(module, source, name)
        if dialect is None:
            exec(code, module.__dict__)
        else:
            if name != CODE_NAME:
                own._let_children_import(module, "script", path)
            dialect.run(code, module.__dict__)
    except SystemExit:
        raise
    except BaseException:
        kind, error, trace = sys.exc_info()
        while trace is not None and trace.tb_frame.f_code.co_filename != name:
            trace = trace.tb_next
        if hasattr(error, "with_traceback"):
            error = error.with_traceback(trace)
        if _loaded:  # frames of ours can be in it
            _load("_dialect").without_hidden(error, HERE)
            trace = getattr(error, "__traceback__", trace)
        own._show(kind, error, trace, name)
        missing = [n for n in IPYTHON_NAMES if kind is NameError and "'%s'" % n in str(error)]
        if missing:
            sys.stderr.write("muster: %s is of IPython, which is not installed for this Python; install it: %s -m pip install "
                             "ipython\n" % (missing[0], sys.executable))  # fmt: skip
        if kind is KeyboardInterrupt:  # plain Python ends as the signal would have ended it: so let it see it
            sys.excepthook = own._say_nothing
            raise
        sys.exit(1)


def _say_nothing(*ignored):
    pass  # no lambda in _run: Jython refuses exec in a function that has one


def _compile(module, source, name):
    """Return the code of source, and what must run it (None if it is plain Python)."""
    error = dialect = None
    try:
        code = compile(source, name, "exec", 0, True)
    except SyntaxError as e:
        text = source if isinstance(source, str) and name == CODE_NAME else _text(source)
        if text is None:
            raise
        error = e
    if error is not None:
        dialect = _load("_dialect")
        code, source = dialect.compile_text(_dedent(text), name, module, error, _load)
    names = [n for n in IPYTHON_NAMES if (n if isinstance(source, str) else n.encode()) in source]
    if names and _load("_dialect").provide(source, name, names, module, _load):
        dialect = _load("_dialect")
    return code, dialect


def _text(source):
    """Return the source of a script as text; None if it is none."""
    if str is bytes:
        return source.replace("\r\n", "\n").replace("\r", "\n")
    import io
    import tokenize

    try:
        encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
        return source.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except (SyntaxError, UnicodeError):
        return None


_loaded = {}
_kept = []  # what a fork shares with its zygote and need not free: that would copy it first


def _load(name):
    """Return a file of this folder as a module. Not by import: a script may have a module of the same name."""
    if name not in _loaded:
        module = type(os)("_muster" + name)
        module.__file__ = os.path.join(HERE, name + ".py")
        with open(module.__file__, "rb") as f:
            exec(compile(f.read(), module.__file__, "exec", 0, True), module.__dict__)
        _loaded[name] = module
    return _loaded[name]


def _show(kind, error, trace, name):
    """Show an exception that nobody caught."""
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


def _code_text(source):
    """Return what code says, without an indentation that all of it has."""
    if source.startswith(b"\xef\xbb\xbf"):
        source = source[3:]
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as e:
        sys.exit("the code is not UTF-8: %s" % e)
    return _dedent(text.replace("\r\n", "\n"))


def _marked(source):
    """Return code as Python 2 takes it, for which bytes are ASCII unless told otherwise, by a cookie or by this mark."""
    return source if any(b"coding" in line for line in source.split(b"\n")[:2]) else b"\xef\xbb\xbf" + source


def _entry(text):
    """Return linecache's entry for code. No time of change: then it never looks for the file."""
    native = text if str is not bytes else text.encode("utf-8")
    return len(text), None, [line + "\n" for line in native.split("\n")], CODE_NAME


def _show_lines(entry):
    """Let whoever asks linecache for lines of code find them. That takes 8 ms to import, and hardly any code ever asks."""
    if str is bytes or "linecache" in sys.modules:
        import linecache

        linecache.cache[CODE_NAME] = entry
    else:
        sys.meta_path.insert(0, _Lines(entry))


class _Lines(object):
    """Fills linecache's cache when somebody imports that: a finder and a loader that vanishes with its one use."""

    def __init__(self, entry):
        self.entry = entry

    def find_spec(self, name, path=None, target=None):
        if name != "linecache":
            return None
        sys.meta_path.remove(self)
        import linecache

        linecache.cache[CODE_NAME] = self.entry
        self.module = sys.modules.pop(name)  # else it would be loaded again, as another one
        return type(sys.__spec__)(name, self)

    def create_module(self, spec):
        self.spec = self.module.__spec__
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec


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


if __name__ == "__main__":
    main(sys.argv)
