"""System calls of some processes and of all that they start, with times, as perf or strace recorded them.

perf costs each call a microsecond, where its tracepoints may be used (as root); strace stops each process twice for each call, which
makes everything several times slower, and the shares of its parts still tell something.
"""

import os
import platform
import re
import shutil
import signal
import subprocess
import time

# The numbers of the calls that are looked at, by machine.
NUMBERS = {
    "x86_64": {0: "read", 1: "write", 17: "pread64", 18: "pwrite64", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg"},
    "aarch64": {63: "read", 64: "write", 67: "pread64", 68: "pwrite64", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg"},
}


class Call:
    """One system call: by what kind of process, on which descriptor, from when to when, and what it returned."""

    def __init__(self, role, name, fd, begin):
        self.role, self.name, self.fd, self.begin = role, name, fd, begin
        self.end, self.result = None, None

    def __repr__(self):
        return "%s: %s(%s) = %s" % (self.role, self.name, self.fd, self.result)


class Processes:
    """Which threads are ours, and what they belong to: client, server, keeper, init or interpreter."""

    def __init__(self, client, server):
        self.client, self.ours, self.pids = set(), set(), []
        self._there(client, self.client)
        self._there(server, self.ours)

    def _there(self, pid, threads):
        """Enter the threads of a process, and those of all that it has started."""
        self.pids.append(pid)
        threads.update(int(tid) for tid in os.listdir("/proc/%d/task" % pid))
        for child in children(pid):
            self._there(child, self.ours)

    def started(self, by, tid):
        for threads in self.client, self.ours:
            if by in threads:
                threads.add(tid)

    def role(self, tid, comm):
        """Return None for a thread of somebody else's."""
        if tid in self.client:
            return "client"
        if tid not in self.ours:
            return None
        if comm.startswith("muster-keeper"):
            return "keeper"
        return {"muster": "server", "exe": "init", "muster-init": "init"}.get(comm, "interpreter")


def children(pid):
    """Return the processes that a process has started and not waited for."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/status" % name) as f:
                if any(line.startswith("PPid:") and int(line.split()[1]) == pid for line in f):
                    found.append(int(name))
        except OSError:
            pass  # it has ended
    return found


class Perf:
    """Records by the kernel's tracepoints."""

    name, clock = "perf", "monotonic"

    def __init__(self, folder):
        self.data = os.path.join(folder, "perf.data")
        self.numbers = NUMBERS[platform.machine()]

    @staticmethod
    def works():
        if shutil.which("perf") is None or platform.machine() not in NUMBERS:
            return False
        return subprocess.run(["perf", "record", "-q", "-a", "-o", os.devnull, "-e", "raw_syscalls:sys_enter", "true"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def start(self, client, server):
        self.processes = Processes(client, server)
        which = " || ".join("id == %d" % n for n in self.numbers)
        argv = ["perf", "record", "-q", "-m", "512K", "-k", "CLOCK_MONOTONIC", "-o", self.data, "-p", ",".join(map(str, self.processes.pids))]
        for event in ("raw_syscalls:sys_enter", "raw_syscalls:sys_exit"):
            argv += ["-e", event, "--filter", which]
        self.recorder = subprocess.Popen(argv + ["-e", "task:task_newtask"], stderr=subprocess.DEVNULL)
        settle(self.recorder)

    def stop(self):
        self.recorder.send_signal(signal.SIGINT)
        self.recorder.wait()

    def calls(self):
        fields = ["perf", "script", "-i", self.data, "--ns", "-F", "comm,tid,time,event,trace"]
        text = subprocess.run(fields, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, universal_newlines=True, errors="replace").stdout
        line = re.compile(r"\s*(.+?)\s+(\d+)\s+(\d+\.\d+):\s+\S*?:(\w+):\s+(.*)")
        open_calls, found = {}, []
        for m in filter(None, map(line.match, text.splitlines())):
            tid, at, event, rest = int(m[2]), float(m[3]), m[4], m[5]
            if event == "task_newtask":
                self.processes.started(tid, int(re.search(r"pid=(\d+) ", rest)[1]))
            elif event == "sys_enter":
                role = self.processes.role(tid, m[1])
                if role is not None:
                    number, fd = re.match(r"NR (\d+) \(([0-9a-f]+)", rest).groups()
                    open_calls[tid] = Call(role, self.numbers[int(number)], int(fd, 16), at)
                    found.append(open_calls[tid])
            elif self.processes.role(tid, m[1]) is not None:
                number, result = re.match(r"NR (\d+) = (-?\d+)", rest).groups()
                call = open_calls.pop(tid, None)
                if call is None:  # it began before the recording
                    call = Call(self.processes.role(tid, m[1]), self.numbers[int(number)], -1, 0.0)
                    found.append(call)
                call.end, call.result = at, int(result)
        return found


class Strace:
    """Records the calls of processes that it stops at each."""

    name, clock = "strace", "time"

    def __init__(self, folder):
        self.log = os.path.join(folder, "strace")

    @staticmethod
    def works():
        return shutil.which("strace") is not None and subprocess.run(
            ["strace", "-qq", "-o", os.devnull, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def start(self, client, server):
        self.processes = Processes(client, server)
        argv = ["strace", "-qq", "-f", "-Y", "-ttt", "-s", "0", "-e", "signal=none", "-o", self.log]
        argv += ["-e", "trace=read,write,pread64,pwrite64,sendto,recvfrom,sendmsg,recvmsg"]
        for pid in self.processes.pids:
            argv += ["-p", str(pid)]
        self.recorder = subprocess.Popen(argv)
        settle(self.recorder)

    def stop(self):
        self.recorder.send_signal(signal.SIGINT)
        self.recorder.wait()

    def calls(self):
        line = re.compile(r"(\d+)<(.*?)>\s+(\d+\.\d+) (?:<\.\.\. )?(\w+)(\(| resumed>)(.*)")
        open_calls, found = {}, []
        with open(self.log, errors="replace") as f:
            for m in filter(None, map(line.match, f)):
                tid, at, name, begins, rest = int(m[1]), float(m[3]), m[4], m[5] == "(", m[6]
                if tid not in self.processes.client:
                    self.processes.ours.add(tid)  # nobody else is watched
                if begins:
                    fd = re.match(r"\d+", rest)
                    open_calls[tid] = Call(self.processes.role(tid, m[2]), name, int(fd[0]) if fd else -1, at)
                    found.append(open_calls[tid])
                result = re.search(r"= (-?\d+)[^=]*$", rest)
                if result and tid in open_calls:
                    call = open_calls.pop(tid)
                    call.end, call.result = at, int(result[1])
        return found


def settle(recorder):
    """Wait until a recorder records. Nothing tells."""
    time.sleep(1.5)
    if recorder.poll() is not None:
        raise SystemExit("steps: %s has ended at once: try --recorder strace, or perf" % recorder.args[0])


def recorder(name, folder):
    """Return the recorder of that name, or the best that works here."""
    for kind in (Perf, Strace):
        if name in (kind.name, "any") and kind.works():
            return kind(folder)
    raise SystemExit("steps: neither perf's tracepoints nor strace can be used here: run as root, after scripts/need strace")
