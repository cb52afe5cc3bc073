"""Fork children, each into the namespaces of an engine: the zygote of package initproc, which says what it asks for.

Each is as this process was, with what that has imported. What a fork would share or lose, such as threads, makes this process end
instead: then interpreters are started one by one.
"""

import ctypes
import errno
import gc
import os
import sys

import _signal
import _socket

ASKED = 3  # where it is asked
STDIO, NAMESPACES = slice(1, 4), slice(4, 10)  # of the descriptors that come with a question; the first is where to tell the number

CLONE_NEWPID = 0x20000000  # clone(2)
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_CAP_AMBIENT = 4, 22, 24, 47  # prctl(2)
PR_CAP_AMBIENT_CLEAR_ALL, SECCOMP_MODE_FILTER = 4, 2
CAPABILITY_VERSION_3 = 0x20080522  # capset(2)

# Variables that say how many threads libraries start as soon as they are loaded, and of each library a piece of its file's name, the functions
# that set the number later, of which it has one, and the variables that it reads, the first that is set. OpenMP starts its threads when it needs
# them, and its functions set the number for one thread alone, so that it keeps the number with which it was loaded.
THREADS = "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"
SETTERS = (
    (
        "openblas",
        ["%s_set_num_threads%s" % (name, end) for name in ("openblas", "scipy_openblas") for end in ("", "64_")],
        ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    ),
    ("mkl_rt", ["MKL_Set_Num_Threads"], ("MKL_NUM_THREADS", "OMP_NUM_THREADS")),
    ("libblis", ["bli_thread_set_num_threads"], ("BLIS_NUM_THREADS", "OMP_NUM_THREADS")),
    ("libgomp", [], ("OMP_NUM_THREADS",)),
    ("libiomp", [], ("OMP_NUM_THREADS",)),
    ("libomp", [], ("OMP_NUM_THREADS",)),
)

FIONREAD = 0x541B  # ioctl(2)
IN_CHANGES = 0x2 | 0x4 | 0x400 | 0x800  # inotify(7): modified, its attributes or links, deleted, moved
# File systems of which this machine's kernel knows all changes, statfs(2): ext, xfs, btrfs, tmpfs, overlay, zfs, f2fs, bcachefs, squashfs, erofs.
LOCAL_SYSTEMS = 0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0x2FC12FC1, 0xF2F52010, 0xCA451A4E, 0x73717368, 0xE0F5E1E2
CLOCK_SECONDS = 0.005  # by which the clock of files may be late

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


limited = []  # variables that limit_threads has set
libraries = []  # functions that set how many threads there are, or None; the variables, how many it would start at most, and what it was told


def limit_threads():
    """Have libraries start none: a fork loses all threads but one. Their number is set in children. Before anything is imported."""
    for name in THREADS:
        if os.environ.get(name, "1") != "1":
            os.environ[name] = "1"
            limited.append(name)


def threads(wanted):
    """Return the numbers of threads that an environment says to libraries that are loaded and were told others, each with the function that sets
    it; None where it says what is no number, or there is no such function."""
    numbers = []
    for setter, names, most, told in libraries:
        said = _said(wanted, names)
        if said != told:
            if setter is None or not said.isdigit() or int(said) == 0:
                return None
            numbers.append((setter, min(int(said), most)))
    return numbers


def _said(environment, names):
    return next((environment[name] for name in map(os.fsencode, names) if name in environment), b"")


def _find_libraries():
    with open("/proc/self/maps") as f:
        loaded = sorted(set(line.split(None, 5)[5].rstrip("\n") for line in f if ".so" in line))
    for path in loaded:
        for piece, functions, names in SETTERS:
            if piece in os.path.basename(path):
                library = ctypes.CDLL(path)  # which is loaded already
                found = [getattr(library, f) for f in functions if hasattr(library, f)] + [None]
                most = len(os.sched_getaffinity(0)) if piece == "openblas" else 1 << 16
                libraries.append((found[0], names, most, _said(os.environ._data, names)))


notified = []  # the descriptor by which the kernel tells of changes


def watch(files, began):
    """Have the kernel tell of changes of files that it knows all changes of; return the others. Those that were changed since began, in seconds
    since 1970, may have been read before: then another zygote is to be made."""
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if files else -1
    if fd < 0:
        return files
    notified.append(fd)
    local, others = {}, []
    for path in files:
        try:
            device = os.stat(path).st_dev
            if device not in local:
                local[device] = _kind_of_system(path) in LOCAL_SYSTEMS
            if not local[device] or libc.inotify_add_watch(fd, os.fsencode(path), IN_CHANGES) < 0:
                others.append(path)
            elif os.stat(path).st_ctime > began - CLOCK_SECONDS:
                os.kill(os.getpid(), _signal.SIGKILL)
        except OSError:  # it is in an archive, which is another one's file, or was removed
            others.append(path)
    return others


def changed():
    """Report whether a file has changed, in a child that has work. It is asked once."""
    for fd in notified:
        waiting = ctypes.c_int(0)
        failed = libc.ioctl(fd, ctypes.c_ulong(FIONREAD), ctypes.byref(waiting))
        os.close(fd)
        if failed or waiting.value:
            return True
    return False


def _kind_of_system(path):
    """Return the number of the kind of file system that a file is of, statfs(2)."""
    found = (ctypes.c_long * 64)()
    return found[0] if libc.statfs(os.fsencode(path), found) == 0 else -1


def keeps_threads(environment):
    """Report whether a library is loaded that keeps the number of threads with which it was loaded: then children are for work that says the same.
    The environment knows what was read of it. Ends this process where nothing can be forked from it, and each worker imports the modules itself."""
    told = (environment.read | environment.written).intersection(os.fsencode(name) for name in limited)
    if environment.all or told:
        os._exit(0)  # a module that was told the wrong number may have done anything with it
    _find_libraries()
    if threads(environment.after(environment.began)) is None:
        os._exit(0)  # as all children would
    return any(setter is None for setter, _, _, _ in libraries)


def serve(folder, apart):
    """Fork whenever it is asked for. Returns in the children, which are for work of one kind alone if they are apart."""
    project, own = os.getcwd(), os.open("/proc/self/ns/pid", os.O_RDONLY)
    asked = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, ASKED)
    if not _alone((ASKED, own, *notified)) or _generators():
        os._exit(0)  # each worker imports it itself
    gc.collect()
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.freeze()  # a collection in a child would copy what is shared
    says = os.open(os.path.join(folder, "waits"), os.O_WRONLY)
    os.write(says, b"wa" if apart else b"w")
    os.close(says)
    while True:
        rights, files = _question(asked)
        child = False
        try:
            child = _fork(files, own, project)
        except OSError:
            pass  # the engine is gone, or starts an interpreter by itself
        if child:
            os.close(own)
            asked.detach()
            os.close(ASKED)
            _become(rights, files)
            return
        for f in files:
            os.close(f)


def _alone(known):
    """Report whether this process has one thread, no children, and no files but those it should have."""
    with open("/proc/self/stat") as f:
        threads = f.read().rpartition(")")[2].split()[17]
    with open("/proc/self/task/%d/children" % os.getpid()) as f:
        children = f.read()
    files = set(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name))
    return threads == "1" and not children.strip() and not files.difference((0, 1, 2) + known)


def _question(asked):
    """Return what a question says and the descriptors beside it. Ends this process where nobody asks any more."""
    try:
        said, beside, _, _ = asked.recvmsg(1 << 16, 1 << 12)
    except OSError:
        os._exit(0)
    if not said:
        os._exit(0)
    files = []
    for level, kind, data in beside:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            files += [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]
    return said, files


def _fork(files, own, project):
    """Return True in the child, and False here when it has lost its parent, which is what makes it a child of the engine's first process."""
    told, namespaces, doors = files[0], files[NAMESPACES], files[NAMESPACES.stop :]
    me = os.getpid()
    between = child = None
    try:
        _enter(namespaces[0], CLONE_NEWPID)  # for children
        between = os.fork()
    finally:
        if between != 0:
            _enter(own, CLONE_NEWPID)
    if between:
        os.waitpid(between, 0)
        return False
    try:
        for door in doors:
            os.write(door, b"0")
        for namespace in namespaces[1:]:
            _enter(namespace, 0)
        os.chdir(project)
        child = os.fork()
        if child == me or child == 0 and os.getpid() == me:
            # Libraries such as OpenSSL know by this number that they are in a fork, and have to draw new random numbers.
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            child = os.fork()
        if child == 0:
            os.write(told, os.getpid().to_bytes(4, sys.byteorder))
            return True
    except BaseException:
        os._exit(1)
    os._exit(0)


def _enter(namespace, kind):
    if libc.setns(namespace, kind):
        raise OSError(ctypes.get_errno(), "enter a namespace")


def _become(rights, files):
    """Make this process what an interpreter is that was started in this engine."""
    try:
        os.setsid()
        for number, f in enumerate(files[STDIO]):
            os.dup2(f, number)
        for f in files:
            os.close(f)
        _drop(rights)
        _forget()
    except BaseException:
        os._exit(1)


def _forget():
    """Make those modules anew that keep what is to be another thing in each process."""
    for name in "random", "numpy.random":
        if name in sys.modules:
            sys.modules[name].seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
    for name, kept, empty in ("platform", "_uname_cache", None), ("platform", "_platform_cache", {}), ("uuid", "_node", None):
        if hasattr(sys.modules.get(name), kept):
            setattr(sys.modules[name], kept, empty)


def _generators():
    """Return the generators of random numbers that modules have made, besides those that are seeded in children."""
    known, kinds = [], []
    if "random" in sys.modules:
        known.append(sys.modules["random"]._inst)
        kinds.append(sys.modules["random"].Random)
    if "numpy.random" in sys.modules:
        numpy = sys.modules["numpy.random"]
        if _place(numpy.mtrand._rand) != _place(numpy.RandomState()):
            return [numpy.mtrand._rand]  # somebody has drawn from it, or seeded it
        known += [numpy.mtrand._rand, numpy.mtrand._rand._bit_generator]
        kinds += [numpy.Generator, numpy.RandomState, numpy.BitGenerator]
    system = getattr(sys.modules.get("random"), "SystemRandom", ())
    return [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), tuple(kinds)) and not issubclass(type(thing), system) and all(thing is not one for one in known)
    ]


def _place(generator):
    """Return how far a RandomState of numpy's is in its numbers."""
    return generator.get_state(legacy=False)["state"]["pos"]


def _drop(rights):
    """Give up all rights but those that the first process says."""
    has, bound = (int.from_bytes(rights[i : i + 8], sys.byteorder) for i in (0, 8))
    for capability in range(64):
        if not bound >> capability & 1 and libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            if ctypes.get_errno() != errno.EINVAL:
                raise OSError(ctypes.get_errno(), "drop capability %d" % capability)
            break  # the kernel knows no more
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0)
    sets = [(has & 0xFFFFFFFF,) * 2 + (0,), (has >> 32,) * 2 + (0,)]  # effective, permitted, inheritable; lower half first
    header, data = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)(*(sets[0] + sets[1]))
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "set capabilities")
    _prctl(PR_SET_DUMPABLE, 1, 0)
    program = ctypes.create_string_buffer(rights[16:], len(rights) - 16)  # struct sock_filter, 8 bytes each

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    filters = Program((len(rights) - 16) // 8, ctypes.addressof(program))
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(filters))


def _prctl(what, first, second):
    if libc.prctl(what, first, second, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl %d" % what)
