import cdsw
with open("muster.py", "w") as f:
    f.write("X = 'of the project'")
ws = cdsw.launch_workers(1, 0.2, 0.2, code="import muster, cdsw; cdsw.list_workers(); print('muster is', muster.X)")
assert not cdsw.await_workers(ws)["failures"]
# prints: muster is of the project
