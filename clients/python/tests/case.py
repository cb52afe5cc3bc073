"""A test case with a server and a session."""

import contextlib
import io
import unittest

from . import fakeserver


class ServerCase(unittest.TestCase):
    def setUp(self):
        self.server = fakeserver.Server()
        self.addCleanup(self.server.close)
        session = fakeserver.Session(self.server.url)
        session.__enter__()
        self.addCleanup(session.__exit__)
        self.addCleanup(forget)

    def answer(self, method, path, function):
        self.server.answers[(method, "/sessions/self/" + path)] = function

    @contextlib.contextmanager
    def stderr(self):
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            yield out


def forget():
    """Close the connection that this thread kept to the server of one test."""
    from _muster import _http

    conn = getattr(_http._kept, "conn", None)
    if conn is not None:
        _http._forget(conn)
