import cdsw, cml, cml.workers_v1, cml.utils_v1, os
names = ("launch_workers", "list_workers", "await_workers", "stop_workers")
for m in (cdsw, cml, cml.workers_v1, cml.utils_v1._emulate_cdsw()):
    for n in names:
        assert callable(getattr(m, n)), (m, n)
auth = {"user": os.environ["CDSW_API_KEY"], "password": ""}
assert cdsw.get_auth() == auth and cml.utils_v1.get_auth() == auth
assert cdsw.track_metric("a", 1) is None and cdsw.track_file("nowhere") is None
ws = cml.workers_v1.launch_workers(n=1, cpu=0.2, memory=0.1, code="1")
assert not cml.utils_v1._emulate_cdsw().await_workers(ws)["failures"]
