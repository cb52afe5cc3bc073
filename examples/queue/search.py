"""Search the best of many parameters: the session serves them as a queue, workers pull until it is empty."""

import queue
import secrets
import threading
from multiprocessing.managers import BaseManager

import cdsw

PORT = 5000
PARAMETERS = [x / 4 for x in range(-20, 21)]

parameters = queue.Queue()
results = queue.Queue()
for p in PARAMETERS:
    parameters.put(p)


class Queues(BaseManager):
    """The two queues, for whoever knows the key."""


Queues.register("parameters", callable=lambda: parameters)
Queues.register("results", callable=lambda: results)

key = secrets.token_hex(16)
server = Queues(("", PORT), authkey=key.encode()).get_server()
threading.Thread(target=server.serve_forever, daemon=True).start()

workers = cdsw.launch_workers(3, cpu=0.2, memory=0.5, script="worker.py", env={"QUEUE_PORT": PORT, "QUEUE_KEY": key})

scores = {}
while len(scores) < len(PARAMETERS):
    worker, parameter, score = results.get(timeout=60)
    scores[parameter] = score
    print("%s: f(%g) = %g" % (worker, parameter, score))

done = cdsw.await_workers(workers)
best = min(scores, key=scores.get)
assert sorted(scores) == PARAMETERS
print("The best of %d parameters is %g, with %g." % (len(scores), best, scores[best]))
print("%d workers succeeded, %d failed." % (len(done["workers"]), len(done["failures"])))
