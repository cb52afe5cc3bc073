import cdsw, os
os.mkdir("sub")
open("sub/w.py", "w").write("import os, sys; print('ran', os.path.basename(__file__), os.getcwd() == sys.path[0] == os.environ['ROOT'])")
a = cdsw.launch_workers(1, 0.2, 0.1, script="sub/w.py", env={"ROOT": os.getcwd()})
b = cdsw.launch_workers(1, 0.2, 0.1, script=os.path.abspath("sub/w.py"), env={"ROOT": os.getcwd()})
assert not cdsw.await_workers(a + b)["failures"]
# prints: ran w.py True
# prints: ran w.py True
