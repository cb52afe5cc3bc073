import cdsw
ws = cdsw.launch_workers(1, 0.2, 0.1, code="import subprocess; subprocess.Popen(['sleep', '1000']); print('code ends')")
assert not cdsw.await_workers(ws)["failures"]
# prints: code ends
