import cdsw, json
ws = cdsw.launch_workers(3, 0.2, 0.1, code="import time; time.sleep(0.2)")
assert isinstance(ws, list) and len(ws) == 3 and all(type(w) is dict for w in ws)
assert all(w["status"] in ("scheduling", "starting") for w in ws), [w["status"] for w in ws]
assert [w["id"] for w in ws] == [w["id"] for w in reversed(cdsw.list_workers())], "not in launch order"
json.dumps(ws)
assert all(len(w["id"]) == 16 and w["id"].isalnum() and w["id"] == w["id"].lower() for w in ws)
assert cdsw.launch_workers(0, 0.1, 0.1, code="1") == []
