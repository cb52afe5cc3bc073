"""Isolated peers: programs that start an interpreter in namespaces of its own, on the root file system of this machine, read-only."""

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile

from bench import bare
from bench.cases import Missing
from bench.peer import Peer
from bench.world import THREADS

NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup")
MEMORY_BYTES = 2 * 10**9
UNIFIED = "/sys/fs/cgroup/unified"  # where machines with control groups of both versions have the second
HIDDEN = {"proc", "sys", "dev", "tmp", "run", "lost+found"}


def _program(name):
    found = shutil.which(name)
    if found is None:
        raise Missing("%s is not installed; run: apt-get install %s" % (name, DEBIAN.get(name, name)))
    if os.geteuid() != 0:
        raise Missing("%s makes these namespaces only for root; run as root" % name)
    return found


DEBIAN = {"unshare": "util-linux", "bwrap": "bubblewrap", "systemd-run": "systemd"}


def _run(argv):
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    line = p.stdout.readline().decode().strip()

    def tidy():
        _, errors = p.communicate()
        if p.returncode != 0:
            raise RuntimeError("%s ended with %d: %s" % (" ".join(argv), p.returncode, errors.decode()[-500:]))

    if not line:
        tidy()
    return line, tidy


def _oci(name):
    @contextlib.contextmanager
    def peer(work):
        program, argv = _program(name), bare.command(work)
        with tempfile.TemporaryDirectory() as folder:
            bundle, state = os.path.join(folder, "bundle"), os.path.join(folder, "state")
            os.mkdir(bundle)
            with open(os.path.join(bundle, "config.json"), "w") as f:
                json.dump(
                    _config(os.path.join(bundle, "root"), [sys.executable] + argv[1:] if argv[0] == sys.executable else argv), f
                )
            count = 0

            if name == "crun" and _hybrid():
                _hide(UNIFIED)

            def once():
                nonlocal count
                count += 1
                return _run([program, "--root", state, "run", "--bundle", bundle, "muster-bench-%d-%d" % (os.getpid(), count)])

            yield once

    return peer


def _config(root, argv):
    """Return an OCI configuration: this machine's files, read-only, with /proc, /dev and /tmp of its own, and a limit of memory."""
    os.mkdir(root)
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
    ]
    for entry in sorted(set(os.listdir("/")) - HIDDEN):
        path = "/" + entry
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            mounts.append({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})
    mounts += _interpreter_below_tmp()
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": os.getuid(), "gid": os.getgid()},
            "args": argv,
            "env": ["PATH=" + os.environ.get("PATH", os.defpath), "HOME=/tmp"] + ["%s=%s" % v for v in THREADS.items()],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": "root", "readonly": True},
        "hostname": "bench",
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": t} for t in NAMESPACES if t != "cgroup" or os.path.exists("/proc/self/ns/cgroup")],
            "resources": {"memory": {"limit": MEMORY_BYTES}, "cpu": {"shares": 1024}},
        },
    }


def _interpreter_below_tmp():
    """Return a mount of the virtual environment where that lies in a folder that is hidden."""
    if sys.prefix.lstrip("/").split("/")[0] in HIDDEN:
        return [{"destination": sys.prefix, "type": "bind", "source": sys.prefix, "options": ["rbind", "ro"]}]
    return []


def _hybrid():
    return os.path.isdir(UNIFIED)


def _hide(mount):
    """Take a mount out of this process's own sight, and that of what it starts; the machine keeps it."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, private_all = 0x20000, (1 << 18) | (1 << 14)  # CLONE_NEWNS; MS_PRIVATE | MS_REC
    if libc.unshare(new_mounts) or libc.mount(None, b"/", None, private_all, None) or libc.umount2(mount.encode(), 0):
        e = ctypes.get_errno()
        raise OSError(e, "hide %s from crun: %s" % (mount, os.strerror(e)))


def _crun_note():
    return "crun refuses machines with control groups of both versions: version 2 is hidden from it" if _hybrid() else ""


@contextlib.contextmanager
def _unshare(work):
    flags = ["--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--cgroup", "--mount-proc"]
    argv = [_program("unshare")] + flags + bare.command(work)
    yield lambda: _run(argv)


@contextlib.contextmanager
def _bwrap(work):
    argv = [_program("bwrap"), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for mount in _interpreter_below_tmp():
        argv += ["--ro-bind", mount["source"], mount["destination"]]
    argv += ["--unshare-all", "--die-with-parent"] + bare.command(work)
    yield lambda: _run(argv)


@contextlib.contextmanager
def _systemd_run(work):
    program = _program("systemd-run")
    if not os.path.isdir("/run/systemd/system"):
        raise Missing("no systemd runs on this machine")
    argv = [
        program,
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        "-p",
        "PrivateNetwork=yes",
        "-p",
        "PrivateTmp=yes",
        "-p",
        "PrivateIPC=yes",
    ]
    argv += ["-p", "ProtectSystem=strict", "-p", "NoNewPrivileges=yes", "-p", "MemoryMax=%d" % MEMORY_BYTES] + bare.command(
        work
    )
    yield lambda: _run(argv)


_APART = "namespaces (%s), read-only files" % ", ".join(NAMESPACES)
PEERS = [
    Peer("runc", "runc", "", True, _APART + ", limits; no address", _oci("runc")),
    Peer("crun", "crun", "", True, _APART + ", limits; no address", _oci("crun"), note=_crun_note),
    Peer(
        "unshare",
        "unshare",
        "",
        True,
        "namespaces (%s); the machine's files, no limits, no address" % ", ".join(NAMESPACES),
        _unshare,
        tiny=True,
    ),
    Peer("bwrap", "bubblewrap", "", True, _APART + "; no limits, no address", _bwrap, tiny=True),
    Peer(
        "systemd-run",
        "systemd-run",
        "",
        True,
        "read-only files, limits, network and /tmp of its own; no processes of its own",
        _systemd_run,
        tiny=True,
    ),
]
