import cdsw
import muster

ws = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="import os; print('made of', os.environ['PART'])", env={"PART": "wood"}, name="smith")
cdsw.await_workers(ws)
again, = muster.restart_workers(ws)
assert again["restart_of"] == ws[0]["id"] and again["id"] != ws[0]["id"] and again["name"] == "smith", again
assert len(cdsw.await_workers(again)["workers"]) == 1
assert muster.worker_logs(again) == "made of wood\n"

# One that lives is stopped first.
lives, = cdsw.launch_workers(1, cpu=0.2, memory=0.1, code="import time; time.sleep(1000)")
cdsw.await_workers(lives, wait_for_completion=False)
again, = cdsw.restart_workers(lives["id"])
assert cdsw.await_workers(lives)["failures"][0]["status"] == "stopped"
assert len(cdsw.await_workers(again, wait_for_completion=False)["workers"]) == 1
cdsw.stop_workers(again)

refused, = cdsw.restart_workers("nosuchworker0000")
assert "id" not in refused and "no worker of this session" in refused["message"], refused
# prints: made of wood
# prints: made of wood
# says: 1 worker refused: no worker of this session has the id
