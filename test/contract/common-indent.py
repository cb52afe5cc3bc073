import cdsw
ws = cdsw.launch_workers(1, 0.2, 0.1, code="""

    if True:
        print("indented")
    print("all of it")

""")
assert not cdsw.await_workers(ws)["failures"]
# prints: indented
# prints: all of it
