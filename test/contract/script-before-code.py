import cdsw
open("w.py", "w").write("open('from-script', 'w').write('x')")
a = cdsw.launch_workers(1, 0.2, 0.1, script="w.py", code="open('from-code', 'w').write('x')")
assert not cdsw.await_workers(a)["failures"]
import os
assert os.path.exists("from-script") and not os.path.exists("from-code"), os.listdir(".")
