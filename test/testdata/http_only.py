"""A client that knows nothing but the route table of the workers API: the standard library's urllib, and the environment of
an engine. It launches, lists and stops workers, and says what is not as the table promises."""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request

PROJECT, ENGINE, API = (os.environ["CDSW_%s_URL" % n] for n in ("PROJECT", "ENGINE", "API"))
KEY = os.environ["CDSW_API_KEY"]
BASIC = "Basic " + base64.b64encode((KEY + ":").encode()).decode()
BEARER = "Bearer " + KEY


def call(method, url, body=None, auth=BASIC):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    if auth:
        request.add_header("Authorization", auth)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def get(url, **how):
    status, body = call("GET", url, **how)
    assert status == 200, (url, status, body)
    return json.loads(body)


def launch(cpu=0.1, memory=0.1, auth=BASIC, **more):
    body = {"kernel": "python3", "cpu": cpu, "memory": memory, "nvidia_gpu": 0, "script": "", "code": "", "env": {},
            "master_id": os.environ["CDSW_MASTER_ID"]}
    body.update(more)
    status, reply = call("POST", PROJECT + "/dashboards", body, auth)
    return status, json.loads(reply)


def accepted(**how):
    status, worker = launch(**how)
    assert 200 <= status < 300 and len(worker["id"]) == 16, (status, worker)
    assert worker["master_id"] == os.environ["CDSW_MASTER_ID"], worker
    return worker["id"]


def stop(worker, auth=BASIC):
    return call("PUT", PROJECT + "/dashboards/" + worker + "/stop", auth=auth)


def statuses():
    return {w["id"]: w["status"] for w in get(ENGINE + "/workers")}


def until(what, reached):
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end, "%s: %s" % (what, statuses())
        time.sleep(0.05)


def main():
    before = list(statuses())
    idle = [accepted(), accepted(cpu="0.1", memory="0.1", nvidia_gpu="0", env="", auth=BEARER)]
    # A comment is a program that does nothing in every language.
    brief = accepted(code="# nothing to do", env=[])
    script = accepted(script="brief.py", env=None, name="by name", accelerator_label_id=-1)

    until("two idle, two done", lambda: [statuses()[i] for i in idle + [brief, script]] == ["running"] * 2 + ["succeeded"] * 2)
    listed = get(ENGINE + "/workers", auth=BEARER)
    assert [w["id"] for w in listed] == [script, brief] + idle[::-1] + before, listed
    assert [w["name"] for w in listed[:2]] == ["by name", "Untitled Worker"], listed
    for w in listed:
        one = get(PROJECT + "/dashboards/" + w["id"])
        assert one["url"] == PROJECT + "/dashboards/" + w["id"] and one.keys() == w.keys(), (one, w)
        assert get(one["url"])["id"] == w["id"]
    own = get(ENGINE)
    assert own["id"] == os.environ["CDSW_ENGINE_ID"], own
    assert get(ENGINE + "/workers/")[0]["id"] == script

    assert stop(idle[0]) == (204, b"")
    until("the first is stopped, the second not", lambda: [statuses()[i] for i in idle] == ["stopped", "running"])
    assert stop(idle[1], BEARER) == (204, b"")
    until("both are stopped", lambda: [statuses()[i] for i in idle] == ["stopped"] * 2)
    assert stop(brief) == (204, b""), "what has ended is as good as stopped"
    status, body = stop("a" * 16)
    assert status == 404 and json.loads(body)["message"], (status, body)

    # Refused: what a client that appends every reply to its list needs.
    for bad in ({"memory": 1e6}, {"cpu": 0}, {"cpu": "many"}, {"nvidia_gpu": 1000}, {"kernel": "cobol"}):
        status, reply = launch(**bad)
        assert status >= 400 and "id" not in reply and reply["message"] and reply["k8sMessage"] and "engineId" in reply, (bad, status, reply)
    status, reply = launch(master_id="b" * 16)
    assert status == 404 and "id" not in reply and reply["message"], (status, reply)
    assert len(statuses()) == 4 + len(before), "a refused worker is in the list"

    for path in ("/site/config/", "/site/config"):
        config = get(API + path)
        assert type(config["max_gpu_per_engine"]) is int and type(config["default_accelerator_label_id"]) is int, config

    for auth in (None, "Bearer nonsense", "Basic " + base64.b64encode(b"nonsense:").decode()):
        status, body = call("GET", ENGINE + "/workers", auth=auth)
        assert status == 401 and json.loads(body)["message"], (auth, status, body)
    for path in ("/dashboards/" + "c" * 16, "/dashboards/" + "c" * 16 + "/workers"):
        status, body = call("GET", PROJECT + path)
        assert status == 404 and json.loads(body)["message"], (path, status, body)
    status, body = call("GET", API.replace("v1", "v2") + "/projects")
    assert status == 501 and json.loads(body)["message"], (status, body)
    print("HTTP alone is enough, python", sys.version_info[0])


if __name__ == "__main__":
    main()
