"""What the machine is, and the versions of everything that is measured: figures mean nothing without."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

from bench import world


def facts():
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "system": _system(),
        "virtual": "hypervisor" in world.read("/proc/cpuinfo"),
        "user": "root" if os.geteuid() == 0 else "not root",
        "rung": _rung(),
        "temporary files": _filesystem(tempfile.gettempdir()),
    }


def _rung():
    """Return how much Muster isolates here, as its doctor says it: root, rootless or plain."""
    out = subprocess.run(
        [world.MUSTER, "doctor", "--json"], env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout
    try:
        return next(r["detail"] for r in json.loads(out.decode())["rows"] if r["what"] == "rung").partition(":")[0]
    except (ValueError, KeyError, StopIteration):
        return "unknown"


def _cpu():
    for line in world.read("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system():
    for line in world.read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def _filesystem(folder):
    best = ("", "unknown")
    for line in world.read("/proc/self/mounts").splitlines():
        _, at, kind = line.split()[:3]
        if (folder + "/").startswith(at.rstrip("/") + "/") and len(at) >= len(best[0]):
            best = (at, kind)
    return best[1]


# How each program says its version; the first line counts.
_COMMANDS = {
    "muster": [world.MUSTER, "version"],
    "R": ["Rscript", "--version"],
    "scala": ["scala", "-version"],
    "go": ["go", "version"],
    "runc": ["runc", "--version"],
    "crun": ["crun", "--version"],
    "unshare": ["unshare", "--version"],
    "bubblewrap": ["bwrap", "--version"],
    "systemd-run": ["systemd-run", "--version"],
    "callr": ["Rscript", "--vanilla", "-e", "cat(as.character(packageVersion('callr')))"],
    "mirai": ["Rscript", "--vanilla", "-e", "cat(as.character(packageVersion('mirai')))"],
}


def versions():
    """Return the versions of programs and of all Python packages; None for what is not there."""
    found = {"python": platform.python_version(), "python packages": _packages()}
    for name, command in _COMMANDS.items():
        found[name] = _says(command)
    return found


def _says(command):
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else None


def _packages():
    import importlib.metadata

    return (
        {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
        if sys.prefix != sys.base_prefix
        else {}
    )
