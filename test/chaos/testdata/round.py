# One round of "make soak": workers of every kind of end, in a session that begins and ends.
import cdsw

ws = cdsw.launch_workers(n=3, cpu=0.1, memory=0.05, code="for i in range(200): print('line', i)")
ws += cdsw.launch_workers(n=1, cpu=0.1, memory=0.05, code="import sys; sys.exit(3)")
ws += cdsw.launch_workers(n=1, cpu=0.1, memory=0.05, code="import os, time; os.fork() or os.setsid(); time.sleep(1000)")
cdsw.await_workers(ws[4], wait_for_completion=False)
cdsw.stop_workers(ws[4]["id"])
done = cdsw.await_workers(ws, timeout_seconds=0)
assert len(done["workers"]) == 3 and len(done["failures"]) == 2, done
