import cdsw
code = """
import os
print('threads', *(os.environ[k] for k in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'LOKY_MAX_CPU_COUNT', 'POLARS_MAX_THREADS')))
"""
ws = cdsw.launch_workers(1, 1, 0.1, code=code)
assert not cdsw.await_workers(ws)["failures"]
# prints: threads 1 1 1 1 1
