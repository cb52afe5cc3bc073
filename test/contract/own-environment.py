import cdsw, os
os.environ["CHANGED"] = "by the session"
ws = cdsw.launch_workers(1, 0.2, 0.1, env={"NUMBER": 7, "CDSW_MASTER_IP": "1.2.3.4"}, code="""
import os
print("seen", os.environ.get("CHANGED"), repr(os.environ["NUMBER"]), os.environ["CDSW_MASTER_IP"] == os.environ["CML_MASTER_IP"] != "1.2.3.4")
""")
assert not cdsw.await_workers(ws)["failures"]
# prints: seen None '7' True
