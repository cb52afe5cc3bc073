import cdsw
a = cdsw.launch_workers(n="2", cpu="0.2", memory="0.1", nvidia_gpu="0", code="print('started')")
assert len(a) == 2 and all(float(w["cpu"]) == 0.2 and float(w["memory"]) == 0.1 and int(w["nvidia_gpu"]) == 0 for w in a), a
assert not cdsw.await_workers(a)["failures"]
