"""A real HTTP server in a thread that plays the routes of Muster's API and records what it was asked."""

import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer



def worker_id(i):
    return "w%015d" % i


def description(i, **changes):
    d = {
        "id": worker_id(i), "name": "Untitled Worker", "status": "scheduling", "ip_address": "100.100.0.%d" % (i % 250),
        "cpu": 1, "memory": 1, "nvidia_gpu": 0, "kernel": "python3", "exit_code": None, "oomKilled": False, "workers": 0,
        "k8s": {"reason": None, "message": None, "internal_error_code": None, "exit_code": None},
    }  # fmt: skip
    d.update(changes)
    return d


class Server(ThreadingHTTPServer):
    """answers: functions (handler, body) by (method, path without base) in place of the usual ones."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.connections = 0
        self.workers = []
        self.answers = {}
        self.version = "1"
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = "http://127.0.0.1:%d" % self.server_address[1]

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        pass  # clients of these tests break connections on purpose

    def close(self):
        self.shutdown()
        self.server_close()
        self._thread.join()

    def paths(self):
        return [(r["method"], r["path"]) for r in self.requests]

    def bodies(self):
        return [r["body"] for r in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length).decode()) if length else None
        path = self.path
        with self.server.lock:
            self.server.requests.append({"method": self.command, "path": path, "body": body, "headers": dict(self.headers)})
        path = path[len("/muster/v1"):]
        bare = path.partition("?")[0]
        answer = self.server.answers.get((self.command, path)) or self.server.answers.get((self.command, bare))
        answer = answer or USUAL.get((self.command, bare))
        if answer is None:
            return self.reply({"kind": "not_found", "message": "no such route", "hint": ""}, 404)
        answer(self, body)

    do_GET = do_POST = do_DELETE = do

    def reply(self, value, status=200, kind="application/json"):
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        if self.server.version:
            self.send_header("Muster-Api-Version", self.server.version)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def begin_lines(self, kind="application/x-ndjson"):
        self.send_response(200)
        self.send_header("Muster-Api-Version", self.server.version)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def line(self, value):
        payload = value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload))

    def end_lines(self, trailer=()):
        lines = ["%s: %s\r\n" % (name, trailer[name]) for name in trailer]
        self.wfile.write(b"0\r\n" + "".join(lines).encode() + b"\r\n")

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def launch(h, body):
    with h.server.lock:
        first = len(h.server.workers)
        new = [description(first + i, kernel=body["kernel"], name=body.get("name") or "Untitled Worker")
               for i in range(body["n"])]
        h.server.workers += new
    h.reply({"workers": new})


def workers(h, body):
    h.reply({"workers": h.server.workers[::-1]})


def restart(h, body):
    known = [w["id"] for w in h.server.workers]
    h.reply({"workers": [
        dict(description(900 + i), restart_of=old) if old in known else {"message": "it is forgotten", "restart_of": old}
        for i, old in enumerate(body["ids"])
    ]})


def log(h, body):
    """The output of the first worker: its bytes are no text."""
    h.reply(b"one\ntw\xc3\xb6\n\xff\n", kind="application/octet-stream")


def awaited(h, body):
    ids = None if body.get("all") else body["ids"]
    done = [dict(w, status="succeeded") for w in h.server.workers if ids is None or w["id"] in ids]
    if "application/x-ndjson" not in h.headers["Accept"]:
        return h.reply({"workers": done, "failures": []})
    h.begin_lines()
    h.line({"progress": {"done": 0, "of": len(done), "waiting": "1 core of 2 is free"}})
    h.line({"result": {"workers": done, "failures": []}})
    h.end_lines()


def stop(h, body):
    known = [w["id"] for w in h.server.workers]
    ids = known if body.get("all") else body["ids"]
    h.reply({"results": [{"id": i, "status": 204 if i in known else 404} for i in ids]})


USUAL = {
    ("POST", "/sessions/self/workers"): launch,
    ("GET", "/sessions/self/workers"): workers,
    ("POST", "/sessions/self/await"): awaited,
    ("POST", "/sessions/self/stop"): stop,
    ("POST", "/sessions/self/restart"): restart,
    ("GET", "/engines/" + worker_id(0) + "/log"): log,
}


class Session:
    """Environment variables of a process in a session of the server; restores them at the end."""

    def __init__(self, url):
        self.values = {"MUSTER_URL": url, "CDSW_API_KEY": "key"}

    def __enter__(self):
        self.before = dict(os.environ)
        os.environ.update(self.values)
        return self

    def __exit__(self, *error):
        os.environ.clear()
        os.environ.update(self.before)
