"""A server of Muster's with folders of its own, a project, and what belongs to its sessions on the machine.

Nothing here touches a server that somebody uses: folders, socket and capacity are this world's, and go with it.
"""

import contextlib
import glob
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from bench.cases import Missing

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MUSTER = os.path.join(REPOSITORY, "bin", "muster")
CLIENT = os.path.join(REPOSITORY, "clients", "python")

DEADLINE = 60  # seconds, after which something counts as not happening

# A kernel that costs next to nothing: a thousand of them say what Muster costs, not what Python does.
SHELL_KERNEL = '[kernels.light]\ncommand = "sh"\ncode = ["-c", "{code}"]\n'


# Of the caller's environment: what would make his interpreters others than everybody's, and his settings for Muster.
_LEFT_OUT = ("MUSTER_", "CDSW_", "CML_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_")

# A worker with one CPU has one thread in its libraries. numpy is imported a quarter faster so: everybody imports it so.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def environment(ahead=True):
    """Return the environment of a server, and so of what its engines get; of bare interpreters and of peers, too."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_LEFT_OUT)}
    env.update(THREADS, NO_COLOR="1")
    env["MUSTER_AHEAD"] = "on" if ahead else "off"  # the one place that says whether engines are started ahead
    return env


class World:
    """A server that runs from open() to close(). Of this process and those that it starts it is the server from open() on."""

    def __init__(self, ahead=True, settings=""):
        if not os.access(MUSTER, os.X_OK):
            raise SystemExit("bench: there is no program %s; run: make build" % MUSTER)
        # Where projects lie: engines have a /tmp of their own, and one that is in there costs them folders on the disk.
        home = os.path.join(os.path.expanduser("~"), ".cache")
        os.makedirs(home, exist_ok=True)
        self.root = tempfile.mkdtemp(prefix="muster-bench-", dir=home)
        self.state, self.runtime, self.project = (os.path.join(self.root, d) for d in ("state", "run", "project"))
        for folder in (self.state, self.runtime, self.project):
            os.mkdir(folder, 0o700)
        with open(os.path.join(self.project, "muster.toml"), "w") as f:
            f.write(settings)
        self.env = dict(environment(ahead), MUSTER_STATE_DIR=self.state, MUSTER_RUNTIME_DIR=self.runtime, MUSTER_BIN=MUSTER)
        self.ahead = ahead
        self.server = None

    def open(self):
        log = os.path.join(self.root, "server.log")
        with open(log, "wb") as f:
            # Room for what is promised to many engines: they use little of it.
            command = [MUSTER, "up", "--web", "none", "--memory-capacity", "1000"]
            self.server = subprocess.Popen(command, env=self.env, cwd=self.root, stdin=subprocess.DEVNULL, stdout=f, stderr=f)
        until(lambda: self.server.poll() is not None or "the server answers" in read(log), "the server answers")
        if self.server.poll() is not None:
            raise RuntimeError("muster up ended with %d: %s" % (self.server.returncode, read(log)[-2000:]))
        return self

    def close(self):
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            try:
                self.server.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def enter(self):
        """Make this process one of the world: what imports cdsw from now on becomes a session of its server."""
        os.environ.clear()
        os.environ.update(self.env)
        os.chdir(self.project)
        sys.path.insert(0, CLIENT)

    def silent_session(self):
        """Make this process a session whose console nobody shows: another reader would take part of the cores."""
        with open(os.path.join(self.runtime, "token")) as f:
            token = f.read().strip()
        body = {"kind": "attached", "name": "bench", "kernel": "python3", "project": self.project}
        body.update(owner_pid=os.getpid(), base_env=self.env, interpreter=sys.executable)
        connection = _Unix(os.path.join(self.runtime, "server.sock"))
        connection.request(
            "POST",
            "/muster/v1/sessions",
            json.dumps(body),
            {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
        )
        reply = connection.getresponse()
        text = reply.read().decode()
        if reply.status >= 300:
            raise RuntimeError("no session: HTTP %d: %s" % (reply.status, text))
        os.environ.update(json.loads(text)["env"])


class _Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("muster", timeout=DEADLINE)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@contextlib.contextmanager
def session(ahead=True, settings="", silent=False):
    """Make this process a session of a world of its own, and yield that world."""
    world = World(ahead, settings)
    try:
        world.open()
        world.enter()
        if silent:
            world.silent_session()
        import cdsw  # noqa: F401

        if not os.environ.get("CDSW_ENGINE_ID"):
            raise RuntimeError("this process did not become a session; see above why")
        yield world
        if not silent:
            end_session()
    finally:
        world.close()


def end_session():
    """End the session that this process is: what the follower would do at its exit, while the server still runs."""
    from _muster import _session

    if _session.follower is not None:
        _session.follower.end()


def read(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def until(condition, what, seconds=DEADLINE, pause=0.005):
    """Wait until a condition of the machine holds, of which nothing tells."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("this did not happen within %d s: %s" % (seconds, what))
        time.sleep(pause)


# What belongs to a session on the machine.

_GROUP = re.compile(r"/([a-z][a-z0-9]{15})-([a-z][a-z0-9]{15})(?:/|$)", re.MULTILINE)


def keeper(session):
    """Return the process that keeps a session's workers."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        words = read(path).split("\0")
        if words[0] == "muster-keeper" and any(os.path.basename(w) == session for w in words[1:]):
            return int(path.split("/")[2])
    raise RuntimeError("session %s has no keeper" % session)


def processes(session):
    """Return the engine of each process of a session's, by its number, as far as control groups tell."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        match = _GROUP.search(read(path))
        if match and match.group(1) == session:
            found[int(path.split("/")[2])] = match.group(2)
    return found


def groups(session):
    """Return the control groups of a session's engines."""
    return [d for d, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(d).startswith(session + "-")]


def needs_groups():
    """Raise Missing where engines have no control groups, by which their processes are found."""
    if os.geteuid() != 0:
        raise Missing("needs root: without it engines may have no control groups, by which their processes are found here")


def left(world, session):
    """Return what is left of a session on the machine, as counts. The folder of its output is kept on purpose."""
    mounts = [line for line in read("/proc/self/mountinfo").splitlines() if session in line]
    return {"processes": len(processes(session)), "control groups": len(groups(session)), "mounts": len(mounts)}


def private_kb(pid):
    """Return a process's own memory: what would be free again without it."""
    return sum(int(line.split()[1]) for line in read("/proc/%d/smaps_rollup" % pid).splitlines() if line.startswith("Private_"))


class Held:
    """Processes that are awaited by descriptors, which never mean another process than the one that was meant."""

    def __init__(self, pids):
        self._poll, self._open = select.poll(), set()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # gone already: as good
                fd = os.pidfd_open(pid)
                self._open.add(fd)
                self._poll.register(fd, select.POLLIN)

    def __len__(self):
        return len(self._open)

    def wait(self, seconds=DEADLINE):
        """Wait until all have ended. Return how many have not."""
        end = time.monotonic() + seconds
        while self._open:
            ready = self._poll.poll(max(0, (end - time.monotonic()) * 1000))
            if not ready:
                break
            for fd, _ in ready:
                self._poll.unregister(fd)
                self._open.discard(fd)
                os.close(fd)
        return len(self._open)


def kill(pid):
    os.kill(pid, signal.SIGKILL)
