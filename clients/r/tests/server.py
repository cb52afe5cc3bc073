"""The server that the R tests talk to: the one of the Python client's tests, whose behaviour the API key chooses.

Prints its URL, serves until its stdin ends. GET /requests gives the requests since the last time, /forget forgets the
workers too. On the unix socket that the argument names it makes sessions of processes, as muster up does.
"""

import base64
import json
import os
import socketserver
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../python"))
from tests import fakeserver  # noqa: E402


def error(kind, status):
    return lambda h, body: h.reply({"kind": kind, "message": "the message", "hint": "the hint"}, status)


def half(h, body):
    h.begin_lines()
    h.line({"progress": {"done": 0, "of": 1}})
    h.end_lines()


def noise(h, body):
    h.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    h.hang_up()


def damaged(h, body):
    h.begin_lines("application/octet-stream")
    h.line(b"one\n")
    h.end_lines({"Muster-Damaged": "console file /t\u00fcr/w.log is damaged at byte 31"})


BY_KEY = {
    "damaged": damaged,
    "invalid": error("invalid", 400),
    "unauthorized": error("unauthorized", 401),
    "html": lambda h, body: h.reply(b"<html>hello</html>"),
    "array": lambda h, body: h.reply(b"[1]"),
    "empty": lambda h, body: h.reply(b"{}"),
    "gateway": lambda h, body: h.reply(b"<html>", 502),
    "bytes": lambda h, body: h.reply(b"\xff\0\xfe"),
    "noise": noise,
    "hangup": lambda h, body: h.hang_up(),
    "half": half,
    "group": lambda h, body: h.reply({"workers": [], "failures": [], "results": []}),
}


CONSOLE = [
    ("w000000000000000", "event", '{"type":"engine","name":"crew"}'),
    ("w000000000000000", "stdout", "one\ntw"),
    ("w000000000000001", "stderr", b"f\xc3"),  # amid a character
    ("w000000000000001", "stderr", b"\xbcnf\n"),
    ("w000000000000000", "stdout", "o\nhalf"),
    ("session0session0", "event", '{"type":"notice","message":"a notice"}'),
    ("w000000000000000", "event", '{"type":"exit","status":"failed","message":"ended with exit code 3"}'),
]


def console(h):
    """The first five records are there at once, the others when somebody has awaited."""
    position = int(h.path.partition("from=")[2] or 0)
    awaited = any(r["path"].endswith("/await") for r in h.server.requests)
    h.begin_lines()
    for i, (engine, stream, text) in enumerate(CONSOLE[: None if awaited else 5]):
        if i >= position:
            record = {"position": str(i + 1), "engine": engine, "stream": stream, "time": ""}
            if isinstance(text, bytes):
                record["base64"] = base64.b64encode(text).decode()
            else:
                record["text"] = text
            h.line(json.dumps(record).encode() + b"\n")
    h.end_lines()


def create(h, body):
    env = {"MUSTER_URL": server.url, "CDSW_API_KEY": "key", "CDSW_IP_ADDRESS": "100.100.0.2"}
    h.reply({"id": "session0session0", "env": env}, 201)


class Handler(fakeserver.Handler):
    def do(self):
        key = self.headers.get("Authorization", "")[len("Bearer "):]
        if "/sessions/self/console" in self.path:
            return self.hang_up() if key == "mute" else console(self)
        if self.path in ("/requests", "/forget"):
            with self.server.lock:
                recorded, self.server.requests = self.server.requests, []
                if self.path == "/forget":
                    self.server.workers = []
            return self.reply({"requests": recorded})
        self.server.version = "2" if key == "version" else "1"
        self.server.answers = {k: BY_KEY[key] for k in fakeserver.USUAL} if key in BY_KEY else {}
        self.server.answers["DELETE", "/sessions/self"] = lambda h, body: h.reply(b"", 204)
        super().do()

    do_GET = do_POST = do_DELETE = do


class Owner(fakeserver.Handler):
    disable_nagle_algorithm = False

    def do(self):
        self.server.answers, self.server.version = {("POST", "/sessions"): create}, "1"
        self.server.lock, self.server.requests = server.lock, server.requests
        super().do()

    do_GET = do_POST = do


class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        return super().get_request()[0], ("unix", 0)


server = fakeserver.Server()
server.RequestHandlerClass = Handler
owner = Unix(sys.argv[1], Owner)
threading.Thread(target=owner.serve_forever, daemon=True).start()
print(server.url, flush=True)
sys.stdin.read()
server.close()
