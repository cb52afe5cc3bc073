"""What a worker must not be able to do, tried. Prints "NAME: refused WHY" or "NAME: DONE WHAT" for each attack.

Whatever succeeds in spite of everything is made so that it does no harm: a wrong magic number, a length of zero, a name nobody has.
"""

import array, ctypes, errno, fcntl, glob, os, resource, signal, socket, struct, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
attacks = {}


def attack(name):
    def keep(f):
        attacks[name] = f
        return f

    return keep


def call(number, *args):
    "A system call; -1 is an OSError."
    r = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(a) if isinstance(a, int) else a for a in args])
    if r == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r


def write(path, text="1"):
    with open(path, "r+b", buffering=0) as f:
        f.write(text.encode())
    return f"wrote {path}"


def arch(amd64, arm64):
    return amd64 if os.uname().machine == "x86_64" else arm64


# Mounts and namespaces
for name, number, args in [
    ("mount", arch(165, 40), (b"none", b"/mnt", b"tmpfs", 0, None)),
    ("remount /proc/sys writable", arch(165, 40), (b"", b"/proc/sys", b"", 32 | 4096, None)),
    ("remount /sys/fs/cgroup writable", arch(165, 40), (b"", b"/sys/fs/cgroup", b"", 32 | 4096, None)),
    ("umount", arch(166, 39), (b"/proc/sys", 2)),
    ("pivot_root", arch(155, 41), (b".", b".")),
    ("open_tree", 428, (-100, b"/", 1)),
    ("fsopen", 430, (b"tmpfs", 0)),
    ("unshare mounts", arch(272, 97), (0x00020000,)),
    ("unshare users", arch(272, 97), (0x10000000,)),
    ("unshare cgroups", arch(272, 97), (0x02000000,)),
    ("unshare time", arch(272, 97), (0x00000080,)),
    ("clone3 into new users", 435, (struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)),
    ("setns", arch(308, 268), (0, 0)),
    # The kernel
    ("kexec", arch(246, 104), (0, 99, None, 0)),
    ("load a module", arch(313, 273), (0, b"", 0)),
    ("remove a module", arch(176, 106), (b"muster-no-such-module", 0)),
    ("reboot", arch(169, 142), (0, 0, 0, None)),
    ("swapon", arch(167, 224), (b"/nowhere", 0)),
    ("accounting", arch(163, 89), (b"/nowhere",)),
    ("quotas", arch(179, 60), (0x80000700, b"/nowhere", 0, None)),
    ("set the clock", arch(227, 112), (0, struct.pack("2q", int(time.time()), 0))),
    ("set the time of day", arch(164, 170), (struct.pack("2q", int(time.time()), 0), None)),
    ("adjust the clock", arch(159, 171), (struct.pack("I204x", 1),)),
    ("read the kernel's log", arch(103, 116), (10, None, 0)),
    ("bpf", arch(321, 280), (0, struct.pack("4I112x", 1, 4, 4, 1), 128)),
    ("perf_event_open", arch(298, 241), (struct.pack("II112x", 1, 120), 0, -1, -1, 0)),
    ("userfaultfd", arch(323, 282), (1,)),
    ("io_uring", 425, (8, bytes(120))),
    ("keyctl", arch(250, 219), (0, -4 & 0xFFFFFFFF, 0)),
    ("add_key", arch(248, 217), (b"user", b"muster-test", b"x", 1, -4 & 0xFFFFFFFF)),
    ("open by handle", arch(304, 265), (-100, struct.pack("iiq", 8, 1, 2), 0)),
    ("watch the file system", arch(300, 262), (0, 0)),
    ("set the hostname", arch(170, 161), (b"x", 1)),
    ("set the domain name", arch(171, 162), (b"x", 1)),
]:
    attack(name)(lambda number=number, args=args: f"returned {call(number, *args)}")

# Kernel settings
for path in [
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/rp_filter", "/proc/sys/net/ipv4/ip_nonlocal_bind",
    "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/1/oom_score_adj",
    "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/power/state", "/sys/fs/cgroup/release_agent",
]:
    def setting(path=path):
        if path == "/proc/1/oom_score_adj":
            return write(path, "-1000")
        return write(path, open(path).read() if os.access(path, os.R_OK) else "h")

    attack("write " + path)(setting)

for path in ["/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/sys/firmware", "/sys/kernel/security"]:
    @attack("read " + path)
    def read(path=path):
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, "not there")
        if os.path.isdir(path):
            got = os.listdir(path)
        else:
            with open(path, "rb", buffering=0) as f:
                got = f.read(16)
        if not got:
            raise OSError(0, "empty")
        return repr(got)


@attack("change control groups")
def groups():
    tried, done = 0, []
    for name in ["cgroup.procs", "tasks", "memory.limit_in_bytes", "memory.max", "pids.max", "cpu.shares", "notify_on_release", "cgroup.subtree_control"]:
        for path in glob.glob("/sys/fs/cgroup/" + name) + glob.glob("/sys/fs/cgroup/*/" + name):
            tried += 1
            try:
                done.append(write(path, str(os.getpid())))
            except OSError:
                pass
    for folder in ["/sys/fs/cgroup"] + glob.glob("/sys/fs/cgroup/*/"):
        try:
            os.mkdir(folder + "/muster-test")
            done.append(folder)
        except OSError:
            pass
    if done:
        return " ".join(done)
    raise OSError(errno.EROFS, f"{tried} files")


# Devices
for path, mode, major, minor in [("mem", 0o020600, 1, 1), ("kmsg", 0o020600, 1, 11), ("disk", 0o060600, 254, 0), ("loop", 0o060600, 7, 0), ("fuse", 0o020600, 10, 229)]:
    @attack("make a node for " + path)
    def node(path=path, mode=mode, major=major, minor=minor):
        os.mknod("/tmp/node-" + path, mode, os.makedev(major, minor))
        return "made"


@attack("find a device")
def devices():
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "muster", "fd", "stdin", "stdout", "stderr", "core"}
    more = set(os.listdir("/dev")) - harmless
    if more:
        return " ".join(sorted(more))
    raise OSError(errno.ENODEV, "none but the harmless ones")


@attack("open the project's device node")
def planted():
    with open("node", "rb", buffering=0) as f:
        return repr(f.read(4))


# The init, the keeper and everybody else's processes
@attack("ptrace the init")
def trace():
    if libc.ptrace(16, 1, None, None) == -1:
        raise OSError(ctypes.get_errno(), "attach")
    return "attached"


@attack("write into the init")
def memory():
    return os.open("/proc/1/mem", os.O_RDWR)


@attack("read the init's environment")
def environment():
    with open("/proc/1/environ", "rb") as f:
        return repr(f.read(10))


@attack("read the init's memory")
def vm_read():
    b = ctypes.create_string_buffer(16)
    local = struct.pack("PN", ctypes.addressof(b), 16)
    return call(arch(310, 270), 1, local, 1, struct.pack("PN", 0x400000, 16), 1, 0)


@attack("take the init's descriptors")
def getfd():
    pidfd = call(434, 1, 0)
    try:
        for n in range(10):
            try:
                fd = call(438, pidfd, n, 0)
                return f"descriptor {n} is {os.readlink('/proc/self/fd/%d' % fd)}"
            except OSError as e:
                last = e
        raise last
    finally:
        os.close(pidfd)


@attack("open the init's binary")
def binary():
    return os.open("/proc/1/exe", os.O_RDONLY)


@attack("leave by the init's root")
def root():
    return os.listdir("/proc/1/root/")


@attack("kill or stop the init")
def kill():
    for s in [signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM]:
        os.kill(1, s)
    state = open("/proc/1/stat").read().split(") ")[1][0]
    if state in "TZXt":
        return "its state is " + state
    raise OSError(0, "it lives")


@attack("see other processes")
def others():
    strangers = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            name = open(f"/proc/{p}/comm").read().strip()
        except OSError:
            continue
        if int(p) != 1 and (name.startswith("muster") or name == os.environ["STRANGER"]):
            strangers.append(name)
    if strangers:
        return " ".join(strangers)
    raise OSError(errno.ESRCH, "none")


# Rights
@attack("raise the scheduling priority")
def nice():
    os.nice(-5)
    return "done"


@attack("real-time scheduling")
def realtime():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "done"


@attack("raise a hard limit")
def limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    try:
        resource.setrlimit(resource.RLIMIT_RTPRIO, (hard + 1, hard + 1))
    except ValueError as e:  # Python's word for EPERM
        raise OSError(errno.EPERM, str(e))
    return "done"


@attack("gain capabilities")
def capset():
    header, everything = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0xFFFFFFFF] * 6)
    return call(arch(126, 91), header, everything)


@attack("gain ambient capabilities")
def ambient():
    if libc.prctl(47, 2, 21, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "raise")
    return "done"


@attack("take off no-new-privileges")
def privileges():
    if libc.prctl(38, 0, 0, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "prctl")
    return "done"


@attack("gain by a program with capabilities")
def filecaps():
    # cap_sys_admin+ep on a copy of cat, as only a program that is started can gain it.
    data = open("/bin/cat", "rb").read()
    with open("/tmp/cat", "wb") as f:
        f.write(data)
    os.chmod("/tmp/cat", 0o4755)
    try:
        os.setxattr("/tmp/cat", "security.capability", struct.pack("<5I", 0x02000001, 1 << 21, 0, 0, 0))
    except OSError:
        pass
    got = subprocess.run(["/tmp/cat", "/proc/self/status"], capture_output=True, text=True)
    mine = open("/proc/self/status").read()
    field = lambda text: int(text.split("CapEff:")[1].split()[0], 16)
    if got.returncode or field(got.stdout) & ~field(mine) == 0:
        raise OSError(errno.EPERM, "no more than before")
    return hex(field(got.stdout))


@attack("leave a chroot")
def chroot():
    os.makedirs("/tmp/inner", exist_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            os.chroot("/tmp/inner")
            os.chdir("../" * 50)
            os.chroot(".")
            os._exit(any(map(os.path.exists, os.environ["HIDDEN"].split(":"))))
        except OSError:
            os._exit(0)
    if os.waitpid(pid, 0)[1]:
        return "saw " + os.environ["HIDDEN"]
    raise OSError(0, "the same root as before")


# Terminals and descriptors
@attack("type into a terminal")
def tiocsti():
    done = []
    for fd in range(3):
        try:
            fcntl.ioctl(fd, 0x5412, b"x")
            done.append(fd)
        except OSError:
            pass
    if done:
        return f"into {done}"
    raise OSError(errno.ENOTTY, "none")


@attack("inherit descriptors")
def descriptors():
    more = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            leads = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            continue  # the listing's own
        if int(fd) > 2 and not leads.startswith((os.getcwd(), "/dev/muster")):
            more.append(fd + ":" + leads)
    if more:
        return " ".join(more)
    raise OSError(0, "none")


@attack("see what is hidden")
def hidden():
    seen = [p for p in os.environ["HIDDEN"].split(":") if os.path.exists(p)]
    if seen:
        return " ".join(seen)
    raise FileNotFoundError(errno.ENOENT, os.environ["HIDDEN"])


@attack("link to what is hidden")
def links():
    done = []
    for p in os.environ["HIDDEN"].split(":"):
        try:
            os.symlink(p, "link")
            done.append(open("link").read())
        except OSError:
            pass
        finally:
            os.unlink("link")
        try:
            os.link(p, "hard")
            done.append("hard")
        except OSError:
            pass
    if done:
        return " ".join(done)
    raise OSError(errno.ENOENT, "nothing there")


if __name__ == "__main__":
    for name, f in attacks.items():
        try:
            print(f"{name}: DONE {f()}", flush=True)
        except OSError as e:
            print(f"{name}: refused {errno.errorcode.get(e.errno, e.strerror)}", flush=True)
        except Exception as e:
            print(f"{name}: BROKEN {type(e).__name__} {e}", flush=True)
    print("tried", len(attacks), flush=True)
    while os.environ.get("STAY") and not os.path.exists("go"):
        time.sleep(0.05)
