import cdsw

idle = cdsw.launch_workers(2, cpu=0.1, memory=0.1, code="import time; time.sleep(1000)", group="serve")
fits = cdsw.launch_workers(2, cpu=0.1, memory=0.1, code="print('fitted')", group="fit")
ids = lambda workers: sorted(w["id"] for w in workers)
assert fits[0]["group"] == "fit", fits
assert ids(cdsw.await_workers(group="fit")["workers"]) == ids(fits)
assert ids(cdsw.list_workers(group="serve")) == ids(idle) and len(cdsw.list_workers()) == 4
assert len(cdsw.stop_workers(group="serve")) == 2
assert [w["status"] for w in cdsw.await_workers(idle)["failures"]] == ["stopped", "stopped"]
assert cdsw.list_workers(group="none") == [] and cdsw.stop_workers(group="serve") is None
for ask in (cdsw.await_workers, cdsw.stop_workers):
    try:
        ask(group="fti")
        raise AssertionError("a group that nobody has was %s" % ask.__name__)
    except Exception as e:
        assert 'a group "fti"' in str(e) and "serve, fit" in str(e), e
# prints: fitted
# prints: fitted
