"""Train candidates from the session's queue until none is left; save each model, and send back score and file."""

import os
import queue
from multiprocessing.managers import BaseManager

import joblib

from model import data, model, score


class Queues(BaseManager):
    """The session's two queues."""


Queues.register("candidates")
Queues.register("results")
session = Queues((os.environ["CDSW_MASTER_IP"], int(os.environ["QUEUE_PORT"])), authkey=os.environ["QUEUE_KEY"].encode())
session.connect()
candidates, results = session.candidates(), session.results()
try:
    while True:
        number, parameters = candidates.get_nowait()
        reached = score(parameters)
        file = os.path.join(os.environ["MODELS"], "%d.joblib" % number)
        joblib.dump(model(parameters).fit(*data()), file)
        results.put((number, reached, file))
        print("%s: %.4f" % (parameters, reached))
except queue.Empty:
    print("no candidates left")
