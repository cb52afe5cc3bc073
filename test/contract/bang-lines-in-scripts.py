import cdsw
open("w.py", "w").write("x = !echo captured\nprint(x[0], __name__, __file__[-4:])\n!echo from bash ${BASH_VERSION:+yes}\n")
ws = cdsw.launch_workers(1, 0.2, 0.2, script="w.py")
assert not cdsw.await_workers(ws)["failures"]
# prints: captured __main__ w.py
# prints: from bash yes
