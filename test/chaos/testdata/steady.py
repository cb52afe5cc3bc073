# The session of "make soak" that stays: workers come and go in it as long as it lives.
import os
import cdsw

while not os.path.exists("finish"):
    ws = cdsw.launch_workers(n=2, cpu=0.1, memory=0.05, code="print('here')")
    done = cdsw.await_workers(ws, timeout_seconds=0)
    assert len(done["workers"]) == 2, done
    with open("rounds", "a") as f:
        f.write(".")
