"""The four calls, and the small ones beside them."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

    from ._stopped import StopResponse

    Worker = Dict[str, Any]
    WorkerID = Union[str, int, Mapping[str, Any]]
    Number = Union[int, float, str]


class _Default(str):
    """Tells "python3" given by the caller from "python3" because no kernel was given."""


_NO_KERNEL = _Default("python3")
_NO_ENV: Dict[str, Any] = {}  # the documented default; never written to


def launch_workers(
    n: Number,
    cpu: Number,
    memory: Number,
    nvidia_gpu: Number = 0,
    kernel: str = _NO_KERNEL,
    script: Union[str, os.PathLike[str]] = "",
    code: str = "",
    accelerator_label_id: Any = None,
    resource_profile_id: Any = None,
    resource_group_id: Any = None,
    env: Optional[Mapping[str, Any]] = _NO_ENV,
    name: Optional[str] = None,
) -> List[Worker]:
    """Launch workers: engines that run a script or code next to this session.

    Returns when the server accepted them, not when they run.

    Parameters
    ----------
    n : int
        How many, 0 to 10,000.
    cpu, memory : float
        CPU cores and gigabytes (1,000,000,000 bytes) for each.
    nvidia_gpu : int
        GPUs for each.
    kernel : str
        "python3", "python2", "r" or "scala". Not given, the script's ending decides.
    script : str
        Source file to run, relative to the project folder or absolute.
    code : str
        Code to run; ignored if script is given. Neither: an idle worker, which runs until it is stopped.
    accelerator_label_id, resource_profile_id, resource_group_id
        Accepted for scripts that pass them, and of no effect on one machine. A dict in the first one's place is env.
    env : dict
        Environment variables to set in the workers. Values become text.
    name : str
        Label for the console and for lists.

    Returns
    -------
    list of dict
        A description for each, in launch order. A refused worker is a dict without "id", with "message": a refusal
        raises nothing.

    Raises
    ------
    TypeError, ValueError
        n, cpu, memory or nvidia_gpu is no finite number, n is below 0 or above 10,000, or env is no mapping of names.
    MusterError
        No server could be asked.
    """
    from . import _arguments as arguments

    if arguments.is_mapping(accelerator_label_id):  # older code passes env in eighth place
        if env is not _NO_ENV:
            raise TypeError("launch_workers() got env twice: in eighth place and by name")
        env, accelerator_label_id = accelerator_label_id, None
    count = arguments.count(n)
    body: Dict[str, Any] = {
        "n": count,
        "cpu": arguments.number("cpu", cpu),
        "memory": arguments.number("memory", memory),
        "nvidia_gpu": arguments.number("nvidia_gpu", nvidia_gpu),
        "env": arguments.environment(env),
    }
    if count == 0:
        return []
    try:
        body["script"] = arguments.text("script", script)
        body["code"] = arguments.text("code", code)
        body["name"] = arguments.text("name", name)
        body["kernel"] = arguments.kernel(None if kernel is _NO_KERNEL else kernel, body["script"])
        for key, value in body["env"].items():
            arguments.text("env: " + key, value)
    except arguments.Refusal as e:
        return _refused(count, str(e), "")
    from . import _errors

    try:
        return _launch(body)
    except _errors.NO_ANSWER:
        raise
    except _errors.MusterError as e:
        return _refused(count, e.message, e.hint)


def _launch(body: Dict[str, Any]) -> List[Worker]:
    from . import _http, _session

    _session.ready()
    if _session.follower is None:
        return _http.workers_of(_http.call("POST", "/sessions/self/workers", body), "workers")
    from . import _follow

    with _follow.launch(_session.follower) as launched:
        workers = _http.workers_of(_http.call("POST", "/sessions/self/workers", body), "workers")
        launched(workers)
    return workers


def _refused(n: int, message: str, hint: str) -> List[Worker]:
    """Return the descriptions of n workers that were refused together, and say so where a person looks."""
    if hint:
        message = message + "; " + hint
    print("muster: %d worker%s refused: %s" % (n, "" if n == 1 else "s", message), file=sys.stderr, flush=True)
    return [{"message": message, "k8sMessage": message, "engineId": ""} for _ in range(n)]


def list_workers() -> List[Worker]:
    """Return the descriptions of all workers that this session launched, finished ones too, newest first."""
    from . import _http

    return _http.workers_of(_http.call("GET", "/sessions/self/workers"), "workers")


def await_workers(
    ids: Optional[Union[WorkerID, Iterable[WorkerID]]] = None,
    wait_for_completion: bool = True,
    timeout_seconds: Optional[Number] = 60,
) -> Dict[str, List[Worker]]:
    """Wait until workers have completed successfully, or run.

    Parameters
    ----------
    ids
        Ids and descriptions, one or an iterable of them; None: all workers of the session.
    wait_for_completion : bool
        True: until they have succeeded. False: until they run and have an address.
    timeout_seconds : float
        0: wait for ever. A timeout stops no worker.

    Returns
    -------
    dict
        "workers": fresh descriptions of those that reached it; "failures": of those that did not, for whatever reason.
        A worker that failed raises nothing.
    """
    from . import _arguments as arguments

    body: Dict[str, Any] = {
        "wait_for_completion": bool(wait_for_completion),
        "timeout_seconds": arguments.timeout(timeout_seconds),
    }
    refused: List[Worker] = []
    if ids is None:
        body["all"] = True
    else:
        body["ids"], refused = arguments.worker_ids(ids)
        if not body["ids"]:  # to the server, no ids are all ids
            return {"workers": [], "failures": refused}
    try:
        workers, failures = _await(body)
    except KeyboardInterrupt as e:  # a wait is what people interrupt: show them their line, not where ours was
        raise e.with_traceback(None)
    return {"workers": workers, "failures": failures + refused}


def _await(body: Dict[str, Any]) -> Tuple[List[Worker], List[Worker]]:
    from . import _http, _progress, _session

    with _progress.line() as show:
        reply = _http.stream("POST", "/sessions/self/await", body, show, float(body["timeout_seconds"]))
    workers, failures = _http.workers_of(reply, "workers"), _http.workers_of(reply, "failures")
    if _session.follower is not None:
        _session.follower.settle(workers + failures)
    return workers, failures


def stop_workers(*worker_id: Union[WorkerID, Iterable[WorkerID]]) -> Optional[List[StopResponse]]:
    """Stop workers: those named by ids, descriptions or lists of these; without any, all workers of the session.

    Returns a list with a response for each (status_code 204, or 404 for a worker that this session does not have),
    None where there is nothing to stop.
    """
    from . import _arguments as arguments
    from ._stopped import StopResponse

    body: Dict[str, Any] = {"all": True}
    refused: List[Worker] = []
    if worker_id:
        ids, refused = arguments.worker_ids(worker_id)
        body = {"ids": ids}
    results: List[StopResponse] = []
    if not worker_id or body["ids"]:
        results = [StopResponse(id, status, _why(id, status)) for id, status in _stop(body)]
    for w in refused:
        results.append(StopResponse("", 404, "no id: " + str(w.get("message") or "this is no worker's description")))
    return results or None


def _stop(body: Dict[str, Any]) -> List[Tuple[str, int]]:
    from . import _http

    reply = _http.call("POST", "/sessions/self/stop", body)
    return [(r.get("id", ""), r.get("status", 0)) for r in _http.workers_of(reply, "results")]


def _why(id: str, status: int) -> str:
    return "no worker of this session has the id " + id if status == 404 else ""


def get_auth() -> Dict[str, str]:
    """Return the user name (the API key) and password (none) for the REST routes at $CDSW_API_URL."""
    from . import _session

    _session.ready()
    return {"user": os.environ.get("CDSW_API_KEY", ""), "password": ""}


def track_metric(key: str, value: Any) -> None:
    """Do nothing, as in a session of the original: metrics belong to its experiments."""


def track_file(src: str) -> None:
    """Do nothing, as in a session of the original: tracked files belong to its experiments."""
