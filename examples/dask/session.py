"""A Dask cluster of Muster workers: one is the scheduler, three are Dask's workers, the session is the client."""

import os
import urllib.request

import cdsw
from bokeh.client import pull_session
from dask.distributed import Client

PORT = 8786
N = 200


def task(x):
    """One small computation; it also says on which engine it ran."""
    return x * x, os.environ["CDSW_ENGINE_ID"]


# ---- the cluster, as users of the original start it
scheduler = cdsw.launch_workers(
    n=1, cpu=0.5, memory=1, name="scheduler",
    code="!dask scheduler --host 0.0.0.0 --port %d --dashboard-address 127.0.0.1:$CDSW_APP_PORT" % PORT,
)
ready = cdsw.await_workers(scheduler, wait_for_completion=False)
address = "tcp://%s:%d" % (ready["workers"][0]["ip_address"], PORT)
workers = cdsw.launch_workers(n=3, cpu=0.5, memory=1, name="dask", code="!dask worker %s --nthreads 1 --no-dashboard" % address)

client = Client(address, timeout=120)
client.wait_for_workers(3, timeout=120)
print("Dask %s with workers at %s" % (address, ", ".join(sorted(client.scheduler_info()["workers"]))))

# ---- the same computation there and here
there = client.gather(client.map(task, range(N)))
here = [x * x for x in range(N)]
assert [result for result, _ in there] == here, "Dask's results differ from those computed here"
engines = {where for _, where in there}
assert engines <= {w["id"] for w in workers}, "tasks ran on engines that are not the workers: %s" % engines
assert len(engines) == 3, "tasks ran on %d of 3 workers" % len(engines)
print("%d tasks on %d workers: the sum is %d, as without workers" % (N, len(engines), sum(here)))

# ---- the dashboard, at the address of the scheduler's worker: its page, what it knows, and its websocket
url = scheduler[0]["app_url"]
with urllib.request.urlopen(url + "status", timeout=60) as page:
    assert b"<title>Dask" in page.read(), "no dashboard at " + url
with urllib.request.urlopen(url + "info/main/workers.html", timeout=60) as page:
    known = page.read().decode()
assert all(w in known for w in client.scheduler_info()["workers"]), "the dashboard does not know all workers: " + known
live = pull_session(url=url + "status")
assert live.document.roots, "the dashboard sent no document"
live.close()
print("the dashboard is at " + url + "status")

client.shutdown()
done = cdsw.await_workers(scheduler + workers)
assert not done["failures"], "did not end with the cluster: %s" % done["failures"]
