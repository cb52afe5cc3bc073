import cdsw
good = cdsw.launch_workers(1, 0.2, 0.1, code="1")
bad = cdsw.launch_workers(1, 0.2, 0.1, name="bad", code="raise ValueError('on purpose')")
r = cdsw.await_workers(good + bad)
assert [w["id"] for w in r["workers"]] == [good[0]["id"]] and [w["id"] for w in r["failures"]] == [bad[0]["id"]], r
f = r["failures"][0]
assert (f["status"], f["exit_code"], f["oomKilled"]) == ("failed", 1, False), f
# says: ValueError: on purpose
