import cdsw
ws = cdsw.launch_workers(1, 0.2, 0.1)
assert not cdsw.await_workers(ws, wait_for_completion=False)["failures"]
assert cdsw.await_workers(ws, timeout_seconds=0.3)["failures"][0]["status"] == "running"
cdsw.stop_workers(ws)
assert cdsw.await_workers(ws)["failures"][0]["status"] == "stopped"
