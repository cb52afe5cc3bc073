import cdsw
code = "import os; print('memory', os.environ['CDSW_MEMORY_MB'], os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize // 1000000)"
for memory in 0.45, 0.15:
    assert not cdsw.await_workers(cdsw.launch_workers(1, 0.2, memory, code=code))["failures"]
# prints: memory 450 225
# prints: memory 150 128
