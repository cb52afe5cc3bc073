"""Launch two workers that say who and where they are."""

import cdsw

SAY_HELLO = """
import os
print("Hello from worker", os.environ["CDSW_ENGINE_ID"], "at", os.environ["CDSW_IP_ADDRESS"])
"""

workers = cdsw.launch_workers(2, cpu=0.2, memory=0.5, code=SAY_HELLO)
result = cdsw.await_workers(workers)
print("%d succeeded, %d failed" % (len(result["workers"]), len(result["failures"])))
