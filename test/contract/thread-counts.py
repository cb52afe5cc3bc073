import cdsw
ws = cdsw.launch_workers(1, 1, 0.1, code="import os; print('threads', os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])")
assert not cdsw.await_workers(ws)["failures"]
# prints: threads 1 1 1
