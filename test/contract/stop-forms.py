import cdsw
def workers(n):
    ws = cdsw.launch_workers(n, 0.1, 0.1, code="import time; time.sleep(1000)")
    return ws
def ends(ws):
    r = cdsw.await_workers(ws)
    assert r["workers"] == [] and all(w["status"] == "stopped" for w in r["failures"]), r
a = workers(6)
others = workers(1)
replies = cdsw.stop_workers(a[0]["id"], a[1], [a[2]["id"], a[3]], (a[4],), {a[5]["id"]})
assert [r.status_code for r in replies] == [204] * 6 and repr(replies[0]) == "<Response [204]>", replies
ends(a)
assert cdsw.list_workers()[0]["status"] in ("scheduling", "starting", "running"), "stopped another one"
gone = cdsw.stop_workers("abcdefghijklmnop")
assert [r.status_code for r in gone] == [404], gone
assert [r.status_code for r in cdsw.stop_workers()] == [204], "everything that lives"
ends(others)
assert cdsw.stop_workers() is None and cdsw.stop_workers([]) is None
