import cdsw, time
ws = cdsw.launch_workers(1, 0.2, 0.1, name="good", code="1") + cdsw.launch_workers(1, 0.2, 0.1, name="bad", code="import sys; sys.exit(9)")
for _ in range(1000):  # the original's scripts poll until all have succeeded, which never comes
    if all(w["status"] in ("succeeded", "failed") for w in cdsw.list_workers()):
        break
    time.sleep(0.02)
else:
    raise SystemExit("still not over")
# says: bad
