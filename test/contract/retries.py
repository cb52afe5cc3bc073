import cdsw

# The first two attempts fail, the third does not. The project's folder is what they have in common.
code = """
import sys
with open('attempts', 'a+') as f:
    f.write('x')
    f.seek(0)
    n = len(f.read())
print('attempt', n)
sys.exit(0 if n == 3 else 7)
"""
w, = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code=code, retries=4)
assert (w["attempt"], w["retries"]) == (1, 4), w
done = cdsw.await_workers([w])
assert not done["failures"], done
last, = done["workers"]
assert last["status"] == "succeeded" and last["attempt"] == 3 and last["retry_of"] == w["id"] and last["id"] != w["id"], last
all = cdsw.list_workers()
assert [a["attempt"] for a in all] == [3, 2, 1] and len({a["id"] for a in all}) == 3, all
assert all[2]["retried_as"] == all[1]["id"] and all[2]["exit_code"] == 7 and all[2]["status"] == "failed", all[2]
assert [cdsw.worker_logs(a) for a in all] == ["attempt 3\n", "attempt 2\n", "attempt 1\n"]

# Every attempt fails: one failure.
w, = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="raise SystemExit(5)", retries=1)
done = cdsw.await_workers(w)
assert len(done["failures"]) == 1 and done["failures"][0]["attempt"] == 2 and done["failures"][0]["exit_code"] == 5, done

# Who is stopped is not tried again, and does not ask for it by being stopped.
w, = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="import time; time.sleep(1000)", retries=5)
cdsw.await_workers(w, wait_for_completion=False)
assert cdsw.stop_workers(w)[0].status_code == 204
stopped, = cdsw.await_workers(w)["failures"]
assert stopped["status"] == "stopped" and "retried_as" not in stopped, stopped

# Without the argument nothing is tried again, and descriptions are as they were.
w, = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="raise SystemExit(5)")
plain, = cdsw.await_workers(w)["failures"]
assert plain["id"] == w["id"] and not {"attempt", "retries", "retry_of", "retried_as", "group", "timeout_seconds"} & set(plain), plain
# prints: attempt 1
# prints: attempt 2
# prints: attempt 3
# says: is tried again in 0.1 s: attempt 2 of 5, as
# says: is tried again in 0.2 s: attempt 3 of 5, as
