import cdsw
look = "import os; print('FROM', os.environ.get('FROM'))"
a = cdsw.launch_workers(1, 0.2, 0.1, 0, "python3", "", look, {"FROM": "eighth"})
b = cdsw.launch_workers(1, 0.2, 0.1, code=look, name="b", env={"FROM": "its name"})
assert b[0]["name"] == "b", b[0]["name"]
assert not cdsw.await_workers(a + b)["failures"]
# prints: FROM eighth
# prints: FROM its name
