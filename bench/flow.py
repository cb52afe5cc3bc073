"""How fast what one worker prints is on the disk and with a reader that follows, and what server and keeper take meanwhile; in turns with
what `tee` takes for the same, a file and a reader, which is as fast as this machine's disk and memory are at that time."""

import glob
import os
import subprocess
import sys
import threading

from bench import clock, world

BLOCK = 64 << 10
# The fastest that a program can print: one block of lines, written again and again by the system call itself.
WRITER = """
import os, time
block = memoryview(b"%%063d\\n" %% 7 * (%d // 64))
while not os.path.exists("go"):
    time.sleep(0.01)
with open("began", "w") as f:
    f.write(str(time.monotonic_ns()))
for _ in range(%d):
    done = 0
    while done < len(block):
        done += os.write(1, block[done:])
"""


def output(runs, size):
    """Let one worker print size megabytes, followed by `muster logs -f` into a pipe that is read here."""
    world.needs_groups()
    rates, tee, grown = [], [], {"server kB": [], "keeper kB": []}
    with world.session(silent=True) as w:
        for _ in range(runs):
            tee.append(_tee(size * 1000000 // BLOCK))
            rate, peaks = _once(w, size * 1000000 // BLOCK)
            rates.append(rate)
            for who, kb in peaks.items():
                grown[who].append(kb)
        facts = {"megabytes each": size, "grown at most": {k: max(v) for k, v in grown.items()}}
    return {"samples": {"MB/s": rates, "tee MB/s": tee, **{"grown, " + k: v for k, v in grown.items()}}, "facts": facts}


def _once(w, blocks):
    import cdsw

    session = os.environ["CDSW_ENGINE_ID"]
    worker = cdsw.launch_workers(1, cpu=1, memory=0.5, code=WRITER % (BLOCK, blocks))[0]
    cdsw.await_workers(worker["id"], wait_for_completion=False)
    want = blocks * BLOCK
    reader = subprocess.Popen([world.MUSTER, "logs", "-f", worker["id"]], env=w.env, stdout=subprocess.PIPE)
    memory = _Watch({"server kB": w.server.pid, "keeper kB": world.keeper(session)})
    open("go", "w").close()
    got = _read(reader, want)
    arrived = clock.now()
    on_disk = sum(os.path.getsize(f) for f in glob.glob(os.path.join(w.state, "sessions", session, "console", "*.log")))
    peaks = memory.stop()
    done = cdsw.await_workers(worker["id"])
    reader.wait(world.DEADLINE)
    reader.stdout.close()
    if done["failures"] or got != want or on_disk < want:
        raise RuntimeError("of %d bytes %d came and %d are on disk; failures: %s" % (want, got, on_disk, done["failures"]))
    return _rate(want, arrived), peaks


def _tee(blocks):
    """Return how many MB/s of the same program come through tee."""
    want = blocks * BLOCK
    writer = subprocess.Popen([sys.executable, "-c", WRITER % (BLOCK, blocks)], stdout=subprocess.PIPE)
    tee = subprocess.Popen(["tee", "copy"], stdin=writer.stdout, stdout=subprocess.PIPE)
    writer.stdout.close()
    open("go", "w").close()
    _read(tee, want)
    arrived = clock.now()
    tee.stdout.close()
    if writer.wait() or tee.wait():
        raise RuntimeError("tee did not copy what was written")
    os.remove("copy")
    return _rate(want, arrived)


def _read(reader, want):
    """Read so many bytes of what a process prints, into the same memory, which costs the least."""
    got, into = 0, [bytearray(1 << 20)]
    while got < want:
        more = os.readv(reader.stdout.fileno(), into)
        if not more:
            raise RuntimeError("the reader ended after %d of %d bytes" % (got, want))
        got += more
    return got


def _rate(want, arrived):
    began = int(world.read("began"))
    os.remove("go")
    os.remove("began")
    return want / 1e6 / (arrived - began / 1e9)


class _Watch:
    """Looks at the private memory of processes every 50 ms: how much more it becomes than it was."""

    def __init__(self, pids):
        self._pids = pids
        self._first = {name: world.private_kb(pid) for name, pid in pids.items()}
        self._peak = dict(self._first)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self):
        while not self._stop.wait(0.05):
            for name, pid in self._pids.items():
                self._peak[name] = max(self._peak[name], world.private_kb(pid))

    def stop(self):
        self._stop.set()
        self._thread.join()
        return {name: self._peak[name] - self._first[name] for name in self._pids}
