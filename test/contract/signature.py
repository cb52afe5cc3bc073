import cdsw, inspect
from cml import workers_v1
for module in (cdsw, workers_v1):
    p = inspect.signature(module.launch_workers).parameters
    names = list(p)
    assert names[:3] == ["n", "cpu", "memory"], names
    for later in ("nvidia_gpu", "kernel", "script", "code", "name", "accelerator_label_id", "resource_profile_id", "resource_group_id", "env"):
        assert later in p and p[later].default is not inspect.Parameter.empty, later
    assert (p["nvidia_gpu"].default, p["script"].default, p["code"].default, p["name"].default) == (0, "", "", None)
    assert list(inspect.signature(module.await_workers).parameters) == ["ids", "wait_for_completion", "timeout_seconds"]
    assert inspect.signature(module.await_workers).parameters["timeout_seconds"].default == 60
    assert inspect.signature(module.await_workers).parameters["wait_for_completion"].default is True
    assert list(inspect.signature(module.list_workers).parameters) == []
