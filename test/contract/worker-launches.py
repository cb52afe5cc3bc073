import cdsw, os
open("w.py", "w").write("import cdsw; print(cdsw.launch_workers(1, 0.1, 0.1, code='1')[0]['master_id'])")
a = cdsw.launch_workers(1, 0.2, 0.2, script="w.py")
assert not cdsw.await_workers(a)["failures"]
both = cdsw.list_workers()
assert len(both) == 2 and {w["master_id"] for w in both} == {os.environ["CDSW_ENGINE_ID"]}, both
assert not cdsw.await_workers()["failures"]
