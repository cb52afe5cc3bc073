import cdsw
open("w.R", "w").write("cat('by R', R.version$language, '\\n')")
a = cdsw.launch_workers(1, 0.2, 0.2, script="w.R")
assert a[0]["kernel"] == "r", a[0]["kernel"]
open("w.txt", "w").write("import sys; print('by Python', sys.version_info[0])")
b = cdsw.launch_workers(1, 0.2, 0.1, kernel="python3", script="w.txt")
c = cdsw.launch_workers(1, 0.2, 0.2, kernel="r", code="cat('kernel wins\\n')")
assert not cdsw.await_workers(a + b + c)["failures"]
# prints: by R R
# prints: by Python 3
# prints: kernel wins
