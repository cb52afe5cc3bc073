import cdsw, inspect
from cml import workers_v1
for module in (cdsw, workers_v1):
    p = inspect.signature(module.launch_workers).parameters
    names = list(p)
    assert names[:3] == ["n", "cpu", "memory"], names
    for later in ("nvidia_gpu", "kernel", "script", "code", "name", "accelerator_label_id", "resource_profile_id", "resource_group_id", "env"):
        assert later in p and p[later].default is not inspect.Parameter.empty, later
    assert (p["nvidia_gpu"].default, p["script"].default, p["code"].default, p["name"].default) == (0, "", "", None)
    plain = lambda call: [k for k, v in inspect.signature(call).parameters.items() if v.kind is not v.KEYWORD_ONLY]
    assert plain(module.await_workers) == ["ids", "wait_for_completion", "timeout_seconds"]
    assert inspect.signature(module.await_workers).parameters["timeout_seconds"].default == 60
    assert inspect.signature(module.await_workers).parameters["wait_for_completion"].default is True
    assert plain(module.list_workers) == []
    assert plain(module.launch_workers)[-1] == "name", "what the original does not have comes by keyword alone"
