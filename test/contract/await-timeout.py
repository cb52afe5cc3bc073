import cdsw
ws = cdsw.launch_workers(1, 0.2, 0.1, code="import time; time.sleep(1000)")
cdsw.await_workers(ws, wait_for_completion=False)
r = cdsw.await_workers(ws, timeout_seconds=0.3)
assert r["workers"] == [] and [w["id"] for w in r["failures"]] == [ws[0]["id"]], r
assert cdsw.list_workers()[0]["status"] == "running", "the timeout stopped it"
short = cdsw.launch_workers(1, 0.2, 0.1, code="import time; time.sleep(0.5)")
assert not cdsw.await_workers(short, timeout_seconds=0)["failures"], "0 is no timeout"
