"""How soon an end is known, and how soon everything is gone with a session."""

import subprocess
import sys
import time

from bench import clock, world

# The last that the interpreter does before it ends: it reads the clock, says what it read, and is gone without any cleaning up.
LAST_WORDS = "import os, time; time.sleep(0.2); os.write(1, b'%d\\n' % time.monotonic_ns()); os._exit(0)"

# Workers of every unpleasant kind: double-forked, in sessions of their own, deaf to SIGTERM.
CREW = """
import cdsw, os, time
cdsw.launch_workers(n=2, cpu=0.2, memory=0.2, code='''
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; (sleep 4321 &) ; sleep 4321"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(4321)
    os._exit(0)
time.sleep(0.3)
print("the crew is up", flush=True)
time.sleep(4321)
''')
print("session " + os.environ["CDSW_ENGINE_ID"], flush=True)
time.sleep(4321)
"""


def await_returns(runs):
    """From the worker's last look at the clock (CLOCK_MONOTONIC is one for the machine) to the return of await_workers."""
    with world.session():
        import cdsw

        took = []
        for _ in range(runs + 2):
            worker = cdsw.launch_workers(1, cpu=1, memory=0.2, code=LAST_WORDS)[0]
            done = cdsw.await_workers(worker["id"], timeout_seconds=world.DEADLINE)
            returned = clock.now()
            if done["failures"]:
                raise RuntimeError("a worker failed: %s" % done["failures"])
            said = int(cdsw.worker_logs(worker["id"]).split()[-1])
            took.append(clock.ms(returned - said / 1e9))
    return {"samples": {"await": took[2:]}, "facts": {}}


def session_killed(runs):
    """From the kill of the session's process to the end of the last process that its workers had made, each held by a descriptor."""
    world.needs_groups()
    gone, descendants, remain = [], [], 0
    w = world.World()
    try:
        w.open()
        for _ in range(runs):
            n, took, not_gone = _kill_one(w)
            descendants.append(n)
            gone.append(clock.ms(took))
            remain += not_gone
        facts = {"descendants": descendants, "not gone after %d s" % world.DEADLINE: remain}
    finally:
        w.close()
    return {"samples": {"gone": gone}, "facts": facts}


def _kill_one(w):
    env = dict(w.env, PYTHONPATH=world.CLIENT)
    victim = subprocess.Popen([sys.executable, "-u", "-c", CREW], env=env, cwd=w.project, stdout=subprocess.PIPE, text=True)
    session, up = "", 0
    while not session or up < 2:
        text = victim.stdout.readline()
        if not text:
            raise RuntimeError("the session ended with %d before its workers were up" % victim.wait())
        up += "the crew is up" in text
        if text.startswith("session "):
            session = text.split()[1]
    time.sleep(0.1)
    found = world.processes(session)
    held = world.Held(found)
    start = clock.now()
    victim.kill()
    remain = held.wait()
    took = clock.now() - start
    victim.wait()
    victim.stdout.close()
    return len(found), took, remain
