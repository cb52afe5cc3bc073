"""A Ray cluster of Muster workers: the head is in the session, actors live on three workers."""

import os
import secrets

# Ray's nodes know each other by a token. Without these two it would make one in the home folder, to be left there.
access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
os.environ.update(access)

import cdsw  # noqa: E402
import ray  # noqa: E402

N = 3

# ---- the cluster: a head that runs nothing itself, and a node on each worker
me = os.environ["CDSW_IP_ADDRESS"]
ray.init(_node_ip_address=me, num_cpus=0, include_dashboard=False)
address = ray.get_runtime_context().gcs_address
workers = cdsw.launch_workers(
    n=N, cpu=0.5, memory=2, name="ray",
    code="!ray start --address %s --node-ip-address $CDSW_IP_ADDRESS --num-cpus 1 --block" % address,
    env=access,
)


@ray.remote(num_cpus=1)
class Account:
    """Adds up what it is given, and knows on which engine it lives."""

    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount
        return self.total

    def where(self):
        return os.environ["CDSW_ENGINE_ID"]


# ---- one actor fits on each node, so that they spread by themselves; they wait until there are enough nodes
accounts = [Account.remote() for _ in range(N)]
engines = ray.get([a.where.remote() for a in accounts], timeout=120)
assert sorted(engines) == sorted(w["id"] for w in workers), "actors are on %s" % engines
print("Ray %s at %s with an actor on each of %d workers" % (ray.__version__, address, N))

amounts = list(range(1, 301))
ray.get([accounts[i % N].add.remote(amount) for i, amount in enumerate(amounts)], timeout=120)
there = ray.get([a.add.remote(0) for a in accounts], timeout=120)
here = [sum(amounts[i::N]) for i in range(N)]
assert there == here, "the actors have %s, computed here %s" % (there, here)
print("the actors' totals are %s, as without workers" % there)


# ---- what is larger than a message goes through the nodes' object stores
@ray.remote(num_cpus=1)
def reverse(data):
    return data[::-1]


for account in accounts:
    ray.kill(account)  # makes room
data = bytes(range(256)) * 4096
results = ray.get([reverse.remote(ray.put(data)) for _ in range(N)], timeout=120)
assert all(r == data[::-1] for r in results), "a large object came back changed"
print("%d large objects went there and came back right" % N)
ray.shutdown()
