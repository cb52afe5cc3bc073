"""Search hyper-parameters with scikit-learn: the session serves candidates as a queue, workers train and score them.

Workers save their models; the session keeps the best of all as best.joblib.
"""

import os
import queue
import secrets
import shutil
import tempfile
import threading
from multiprocessing.managers import BaseManager

import cdsw
import joblib
from sklearn.model_selection import ParameterGrid

from model import GRID, data, score

PORT = 5000


class Queues(BaseManager):
    """The two queues, for whoever knows the key."""


candidates, results = queue.Queue(), queue.Queue()
grid = list(ParameterGrid(GRID))
for candidate in enumerate(grid):
    candidates.put(candidate)
Queues.register("candidates", callable=lambda: candidates)
Queues.register("results", callable=lambda: results)
key = secrets.token_hex(16)
server = Queues(("", PORT), authkey=key.encode()).get_server()
threading.Thread(target=server.serve_forever, daemon=True).start()

models = tempfile.mkdtemp(prefix="models-", dir=".")  # in the project: workers see it
try:
    workers = cdsw.launch_workers(
        n=3, cpu=0.5, memory=1, name="search", script="worker.py",
        env={"QUEUE_PORT": PORT, "QUEUE_KEY": key, "MODELS": models},
    )
    done = cdsw.await_workers(workers, timeout_seconds=120)
    assert len(done["workers"]) == 3, "%d of 3 workers failed" % len(done["failures"])

    scores = {}
    while not results.empty():
        number, reached, file = results.get()
        scores[number] = (reached, file)
    here = [score(p) for p in grid]
    there = [scores[i][0] for i in range(len(grid))]
    assert there == here, "the workers' scores differ from those computed here:\n%s\n%s" % (there, here)
    best = max(scores, key=lambda i: (scores[i][0], -i))
    shutil.move(scores[best][1], "best.joblib")
finally:
    shutil.rmtree(models)

X, y = data()
model = joblib.load("best.joblib")
assert {k: getattr(model, k) for k in grid[best]} == grid[best], "the saved model is not the best one"
print("%d candidates on 3 workers: the best is %s with %.4f, as without workers" % (len(grid), grid[best], here[best]))
print("its model is in best.joblib: right for %d of %d samples" % ((model.predict(X) == y).sum(), len(y)))
