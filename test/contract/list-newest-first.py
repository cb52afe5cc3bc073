import cdsw
a = cdsw.launch_workers(1, 0.2, 0.1, name="a", code="1")
cdsw.await_workers(a)
b = cdsw.launch_workers(2, 0.2, 0.1, name="b", code="import sys; sys.exit(3)")
cdsw.await_workers(b)
assert [w["name"] for w in cdsw.list_workers()] == ["b", "b", "a"], cdsw.list_workers()
assert [w["status"] for w in cdsw.list_workers()] == ["failed", "failed", "succeeded"]
