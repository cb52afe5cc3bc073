import cdsw
ws = cdsw.launch_workers(3, 0.2, 0.1, code="1")
ids = [w["id"] for w in ws]
for form, n in ((ids, 3), (ws, 3), (tuple(ids), 3), ((i for i in ids), 3), ([ws[0], ids[1]], 2), (ids[0], 1), (ws[0], 1), (None, 3)):
    r = cdsw.await_workers(form)
    assert set(r) == {"workers", "failures"} and len(r["workers"]) == n and r["failures"] == [], (n, r)
    assert all(w["status"] == "succeeded" for w in r["workers"])
assert len(cdsw.await_workers()["workers"]) == 3
