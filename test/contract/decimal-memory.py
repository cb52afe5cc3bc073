import cdsw
ws = cdsw.launch_workers(1, 0.2, 0.25, code="import os; print('memory', os.environ['CDSW_MEMORY_MB'], os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize // 1000000)")
assert not cdsw.await_workers(ws)["failures"]
# prints: memory 250 125
