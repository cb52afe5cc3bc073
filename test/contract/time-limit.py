import cdsw

polite, deaf, quick = (
    cdsw.launch_workers(1, cpu=0.2, memory=0.1, code=code, timeout_seconds=seconds)[0]
    for code, seconds in (
        ("import time\nprint('begun', flush=True)\ntime.sleep(1000)", 2),
        ("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1000)", 2),
        ("print('in time')", 60),
    )
)
assert polite["timeout_seconds"] == 2, polite
done = cdsw.await_workers([polite, deaf, quick])
assert [w["id"] for w in done["workers"]] == [quick["id"]], done
for w in done["failures"]:
    assert w["status"] == "timedout" and w["reason"] == "time limit" and w["evidence"]["time_limit_seconds"] == 2, w
    assert w["k8s"]["message"] == "ended at its time limit of 2 s", w
assert [w["exit_code"] for w in done["failures"]] == [143, 137], done
# prints: begun
# prints: in time
# says: ended at its time limit of 2 s
