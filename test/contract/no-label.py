import cdsw
for none in ("", -1, None):
    a = cdsw.launch_workers(1, 0.1, 0.1, code="1", accelerator_label_id=none, resource_profile_id=none, resource_group_id=none)
    assert "id" in a[0], a[0]
    assert not cdsw.await_workers(a)["failures"]
