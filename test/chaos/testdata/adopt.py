# A session with very many workers: some are as chatty as chaos likes them, the others are shells that have printed and wait.
import json
import os
import sys
import time

sys.path.insert(0, os.getcwd())
import cdsw

n, talk = int(os.environ["CHAOS_WORKERS"]), int(os.environ["CHAOS_CHATTY"])
plan = dict(name="chatty", kind="chatty", rate=2, burst=1, errors=3, pad=40, long=1000, lines=0, code=0)
began = time.monotonic()
quiet = cdsw.launch_workers(n - talk, cpu=0.01, memory=0.02, name="quiet", kernel="light", code="seq 100; exec sleep 1000000")
chatty = cdsw.launch_workers(talk, cpu=0.01, memory=0.06, name="chatty", script="worker.py", env={"CHAOS_PLAN": json.dumps(plan)})
asked = time.monotonic()
up = cdsw.await_workers(quiet + chatty, wait_for_completion=False, timeout_seconds=0)
if up["failures"]:
    print(up["failures"][0])
said = {"what": "up", "id": os.environ["CDSW_ENGINE_ID"], "n": len(up["workers"])}
said["text"] = "launched in %.1f s, all running after %.1f s" % (asked - began, time.monotonic() - began)
with open("said/adopt", "w") as f:
    f.write(json.dumps(said) + "\n")
while not os.path.exists("finish"):
    time.sleep(0.2)
