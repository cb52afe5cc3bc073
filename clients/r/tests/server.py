"""The server that the R tests talk to: the one of the Python client's tests, whose behaviour the API key chooses.

Prints its URL, serves until its stdin ends. GET /requests gives the requests since the last time.
"""

import os
import sys

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


BY_KEY = {
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
}


class Handler(fakeserver.Handler):
    def do(self):
        key = self.headers.get("Authorization", "")[len("Bearer "):]
        if self.path == "/requests":
            with self.server.lock:
                recorded, self.server.requests = self.server.requests, []
            return self.reply({"requests": recorded})
        self.server.version = "2" if key == "version" else "1"
        self.server.answers = {k: BY_KEY[key] for k in fakeserver.USUAL} if key in BY_KEY else {}
        super().do()

    do_GET = do_POST = do


server = fakeserver.Server()
server.RequestHandlerClass = Handler
print(server.url, flush=True)
sys.stdin.read()
server.close()
