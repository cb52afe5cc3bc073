"""The four calls, restart_workers, worker_logs, and the small ones beside them."""

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
    *,
    retries: Number = 0,
    timeout_seconds: Optional[Number] = None,
    group: Optional[str] = None,
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
    retries : int
        How often one that failed is started again, 0 to 1,000. Each attempt is an engine of its own with an id of its own;
        awaiting or stopping one means those that follow it too.
    timeout_seconds : float
        How long each attempt may run: it then ends with status "timedout". None: as long as it likes.
    group : str
        Label that list_workers, await_workers and stop_workers take.

    Returns
    -------
    list of dict
        A description for each, in launch order. A refused worker is a dict without "id", with "message": a refusal
        raises nothing.

    Raises
    ------
    TypeError, ValueError
        A number is none, or out of its range (n, cpu, memory, nvidia_gpu, retries, timeout_seconds), or env is no mapping of
        names.
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
    again, limit, label = arguments.retries(retries), arguments.time_limit(timeout_seconds), arguments.group(group)
    if again:
        body["retries"] = again
    if limit:
        body["timeout_seconds"] = limit
    if label:
        body["group"] = label
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
    return _launch("/sessions/self/workers", body, count)


def _launch(path: str, body: Dict[str, Any], count: int) -> List[Worker]:
    """Ask for count workers. A refusal by the server becomes that many descriptions."""
    from . import _errors

    try:
        return _started(path, body)
    except _errors.NO_ANSWER:
        raise
    except _errors.MusterError as e:
        return _refused(count, e.message, e.hint)


def _started(path: str, body: Dict[str, Any]) -> List[Worker]:
    from . import _http, _session

    _session.ready()
    repeatable = path.endswith("/workers")
    if repeatable:
        body["key"] = os.urandom(16).hex()  # sent twice, it is one launch
    if _session.follower is None:
        return _http.workers_of(_http.call("POST", path, body, repeatable), "workers")
    from . import _follow

    with _follow.launch(_session.follower) as launched:
        workers = _http.workers_of(_http.call("POST", path, body, repeatable), "workers")
        launched(workers)
    return workers


def _refused(n: int, message: str, hint: str) -> List[Worker]:
    """Return the descriptions of n workers that were refused together, and say so where a person looks."""
    if hint:
        message = message + "; " + hint
    print("muster: %d worker%s refused: %s" % (n, "" if n == 1 else "s", message), file=sys.stderr, flush=True)
    return [{"message": message, "k8sMessage": message, "engineId": ""} for _ in range(n)]


def restart_workers(*worker_id: Union[WorkerID, Iterable[WorkerID]]) -> List[Worker]:
    """Start the work of workers again, named by ids, descriptions or lists of these; those that live are stopped first.

    The code and environments of what has ended are kept for this as long as they are not too large together. Returns a
    description of a new worker for each, with "restart_of". As in launch_workers, one that cannot be started is a dict
    without "id", with "message".
    """
    from . import _arguments as arguments

    if not worker_id:
        raise TypeError("restart_workers() needs the workers that are to be restarted")
    ids, refused = arguments.worker_ids(worker_id)
    workers = _launch("/sessions/self/restart", {"ids": ids}, len(ids)) if ids else []
    for w in refused:
        workers += _refused(1, "no id: " + str(w.get("message") or "this is no worker's description"), "")
    return workers


def worker_logs(id: WorkerID, stream: Optional[str] = None, tail: Optional[int] = None) -> str:
    """Return what a worker has printed so far, or all of it if the worker has ended.

    Parameters
    ----------
    id
        Its id, the eight letters of it that the console shows, or its description. Each attempt of a worker with retries has
        output of its own.
    stream : str
        "stdout" or "stderr"; None: both, in the order in which they were read.
    tail : int
        Only so many lines, the last ones, at most 100,000. None: all.

    Raises
    ------
    NotFoundError
        This session has no such worker.
    TypeError, ValueError
        id names no worker, or not one, or stream or tail are none.

    Warns
    -----
    RuntimeWarning
        What was printed is kept no more, or is damaged: what can be read is returned.
    """
    from . import _arguments as arguments
    from . import _http

    query = "raw=true"
    if stream is not None:
        if stream not in ("stdout", "stderr"):
            raise ValueError("stream must be 'stdout' or 'stderr' (None: both), not %r" % (stream,))
        query += "&stream=" + stream
    if tail is not None:
        query += "&tail=%d" % arguments.tail(tail)
    payload, damaged = _http.read("/engines/%s/log?%s" % (_http.quoted(arguments.worker_id(id)), query))
    if damaged:
        import warnings

        warnings.warn("muster: " + damaged, RuntimeWarning, stacklevel=2)
    return payload.decode("utf-8", "replace")


def list_workers(*, group: Optional[str] = None) -> List[Worker]:
    """Return the descriptions of the workers that this session launched, finished ones too, newest first.

    With group, of those that were launched with it.
    """
    from . import _arguments as arguments
    from . import _http

    named = arguments.group(group)
    path = "/sessions/self/workers" + ("?group=" + _http.quoted(named) if named else "")
    return _http.workers_of(_http.call("GET", path), "workers")


def await_workers(
    ids: Optional[Union[WorkerID, Iterable[WorkerID]]] = None,
    wait_for_completion: bool = True,
    timeout_seconds: Optional[Number] = 60,
    *,
    group: Optional[str] = None,
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
    group : str
        In place of ids: the workers that were launched with it; an error if none ever was.

    Returns
    -------
    dict
        "workers": fresh descriptions of those that reached it; "failures": of those that did not, for whatever reason.
        A worker that failed raises nothing. One that was tried again is described by its last attempt, whose "retry_of" is
        the id that launch_workers returned.
    """
    from . import _arguments as arguments

    body: Dict[str, Any] = {
        "wait_for_completion": bool(wait_for_completion),
        "timeout_seconds": arguments.timeout(timeout_seconds),
    }
    refused: List[Worker] = []
    named = arguments.group(group, ids is not None)
    if named:
        body["group"] = named
    elif ids is None:
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


def stop_workers(
    *worker_id: Union[WorkerID, Iterable[WorkerID]], group: Optional[str] = None
) -> Optional[List[StopResponse]]:
    """Stop workers: those named by ids, descriptions or lists of these, or by their group; all of the session by neither.

    Returns a list with a response for each (status_code 204, or 404 for a worker that this session does not have),
    None where there is nothing to stop.
    """
    from . import _arguments as arguments
    from ._stopped import StopResponse

    named = arguments.group(group, bool(worker_id))
    body: Dict[str, Any] = {"group": named} if named else {"all": True}
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

    # Sent twice, "all" might stop what was launched in between.
    reply = _http.call("POST", "/sessions/self/stop", body, "ids" in body)
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
