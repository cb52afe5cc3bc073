import cdsw
def ends(code):
    w, = cdsw.launch_workers(1, 0.2, 0.1, code=code)
    r = cdsw.await_workers(w)
    d = (r["workers"] + r["failures"])[0]
    return d["status"], d["exit_code"]
assert ends("import sys; sys.exit(0)") == ("succeeded", 0)
assert ends("import sys; sys.exit(5)") == ("failed", 5)
assert ends("import sys; sys.exit('words')") == ("failed", 1)
assert ends("1/0") == ("failed", 1)
assert ends("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")[0] == "failed"
# says: words
# says: ZeroDivisionError
