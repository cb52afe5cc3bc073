import cdsw
import muster

w, = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="""
import sys
for i in range(100):
    print('line', i)
sys.stdout.flush()
print('trouble', file=sys.stderr, flush=True)
""")
cdsw.await_workers(w)
lines = muster.worker_logs(w, "stdout").splitlines()
assert lines == ["line %d" % i for i in range(100)], lines
assert muster.worker_logs(w["id"], stream="stderr") == "trouble\n"
assert muster.worker_logs(w, tail=2) == "line 99\ntrouble\n"
assert len(muster.worker_logs(w).splitlines()) == 101

# Of one that lives, while it goes on; its session's output is not in it.
w, = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="print('so far', flush=True)\nimport time\ntime.sleep(1000)")
cdsw.await_workers(w, wait_for_completion=False)
while not muster.worker_logs(w).endswith("\n"): # an unbuffered print writes that by itself
    pass
assert cdsw.worker_logs(w) == "so far\n"
try:
    muster.worker_logs("nosuchworker0000")
except muster.NotFoundError:
    pass
else:
    raise SystemExit("a worker that nobody knows has output")
# prints: so far
