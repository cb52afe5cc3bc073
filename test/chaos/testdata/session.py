# A session: keeps so many workers running, through every restart of the server, and prints like a worker.
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.getcwd())
import cdsw
import talk
from _muster import _errors

name, want = os.environ["CHAOS_SESSION"], int(os.environ["CHAOS_WORKERS"])
me = os.environ["CDSW_ENGINE_ID"]
plans = json.load(open("plans/%s.json" % name))
LIVE = ("scheduling", "starting", "running", "stopping")


def note(what, **values):
    fd = os.open("said/" + name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, (json.dumps(dict(values, what=what)) + "\n").encode())
    os.close(fd)


def finished():
    return os.path.exists("finish")


def calm(call):
    """Call until there is a server. What may have been carried out is not repeated: that is for the caller to find out."""
    while True:
        try:
            return call()
        except _errors.ServerDownError:
            if finished():
                raise SystemExit(7)
            time.sleep(0.05)


def launch(plan, n):
    """Launch n workers of a plan exactly once, whatever happens to the server meanwhile."""
    label = plan["name"]
    try:
        made = cdsw.launch_workers(n, cpu=0.01, memory=0.1, name=label, script="worker.py", env={"CHAOS_PLAN": json.dumps(plan)})
    except _errors.ServerDownError:
        made = [w for w in calm(cdsw.list_workers) if w["name"] == label]
        note("asked", plan=label, found=len(made))
        if not made:
            return launch(plan, n)
    refused = [w for w in made if not w.get("id")]
    if refused:
        note("refused", plan=label, message=refused[0].get("message", ""))
        time.sleep(0.2)
        return
    note("launched", plan=label, n=n, ids=[w["id"] for w in made])


def crew():
    for plan in plans:
        while not finished():
            missing = want - sum(w["status"] in LIVE for w in calm(cdsw.list_workers))
            if missing > 0:
                launch(plan, min(missing, plan["n"]))
                time.sleep(0.1)
                break
            time.sleep(0.5)


def work():
    try:
        crew()
    except SystemExit:
        pass
    except BaseException as e:  # the checker wants to know
        note("error", text="%s: %s" % (type(e).__name__, e))


note("began", id=me)
thread = threading.Thread(target=work)
thread.start()
talk.talk(me, dict(plans[0], rate=5, lines=0, errors=4, long=100, kind="session"), lambda: not finished()).end()
thread.join()
if os.environ["CHAOS_END"] == "stop":
    calm(lambda: cdsw.stop_workers(*[w["id"] for w in cdsw.list_workers() if w["status"] in LIVE]))
note("ends")
sys.stdout.flush()
raise SystemExit(int(os.environ["CHAOS_CODE"]))
