"""MPI over SSH: mpirun in the session starts one rank on each of four workers, and the ranks add up their numbers."""

import os
import subprocess

import cdsw

N = 4

workers = cdsw.launch_workers(n=N, cpu=0.5, memory=0.5)  # neither script nor code: they wait to be used
ready = cdsw.await_workers(workers, wait_for_completion=False)
hosts = ",".join(w["ip_address"] for w in ready["workers"])

subprocess.run(["mpicc", "-o", "hello", "hello.c"], check=True)
root = ["--allow-run-as-root"] if os.getuid() == 0 else []
run = subprocess.run(["mpirun", *root, "-np", str(N), "--host", hosts, "./hello"], check=True, stdout=subprocess.PIPE, text=True)
print(run.stdout, end="")

lines = run.stdout.splitlines()
places = dict(line.removeprefix("rank ").split(" of %d on " % N) for line in lines if line.startswith("rank "))
assert set(places) == {str(rank) for rank in range(N)}, "ranks are missing: %s" % places
assert set(places.values()) == {w["id"] for w in workers}, "the ranks ran on %s" % places
assert "sum of ranks: %d" % sum(range(N)) in lines, "the sum is not %d" % sum(range(N))
print("%d ranks on %d workers add up to %d, as without workers" % (N, len(set(places.values())), sum(range(N))))
cdsw.stop_workers()
