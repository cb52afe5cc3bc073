import cdsw
stays = cdsw.launch_workers(1, 0.2, 0.1, code="import time; time.sleep(1000)")
done = cdsw.launch_workers(1, 0.2, 0.1, code="1")
assert not cdsw.await_workers(done)["failures"]
r = cdsw.await_workers(stays + done, wait_for_completion=False)
assert [w["id"] for w in r["workers"]] == [stays[0]["id"]] and r["workers"][0]["status"] == "running", r
assert r["workers"][0]["ip_address"] not in ("unknown", None)
assert [w["id"] for w in r["failures"]] == [done[0]["id"]] and r["failures"][0]["status"] == "succeeded", r
