import cdsw
r = cdsw.launch_workers(2, 0.1, 4000, code="1")
assert len(r) == 2 and all("id" not in w for w in r), r
assert all(set(w) >= {"message", "k8sMessage", "engineId"} and "4000 GB" in w["message"] for w in r), r
# says: 2 workers refused
