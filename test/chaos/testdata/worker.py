# A worker: prints as its plan says, and is as unpleasant.
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.getcwd())
import talk

plan = json.loads(os.environ["CHAOS_PLAN"])
if plan["kind"] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if plan["kind"] == "forker" and os.fork() == 0:  # a child of a child, in a session of its own, deaf too
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    for fd in (0, 1, 2):
        os.close(fd)
    while True:
        time.sleep(1000)
talk.talk(os.environ["CDSW_ENGINE_ID"], plan).end()
os._exit(plan["code"])
