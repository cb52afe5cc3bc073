"""The connection: kept, never trusted; and what people read when the server is not what it should be."""

import contextlib
import http.client
import os
import pickle
import select
import socket
import subprocess
import sys
import threading
import unittest
from unittest import mock

import cdsw
import muster
from _muster import _away, _http

from . import fakeserver
from .case import ServerCase, forget
from .fakeserver import Session, description

DEADLINE = 30


class Kept(ServerCase):
    def test_one_connection_for_a_thread(self):
        for _ in range(3):
            cdsw.launch_workers(1, 1, 1)
            cdsw.list_workers()
            cdsw.await_workers()
        self.assertEqual(self.server.connections, 1)

    def test_threads(self):
        seen, errors = [], []

        def work():
            try:
                for _ in range(5):
                    seen.extend(w["id"] for w in cdsw.launch_workers(2, 1, 1))
                    cdsw.await_workers(seen[0])
            except Exception as e:
                errors.append(e)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(DEADLINE)
        self.assertEqual(errors, [])
        self.assertEqual(len(set(seen)), 160)
        self.assertEqual(self.server.connections, 16)

    def test_after_fork(self):
        cdsw.launch_workers(1, 1, 1)
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(w, ("%d" % len(cdsw.list_workers())).encode())
            finally:
                os._exit(0)
        os.close(w)
        with os.fdopen(r) as f:
            self.assertEqual(f.read(), "1")
        os.waitpid(pid, 0)
        cdsw.list_workers()
        self.assertEqual(self.server.connections, 2, "the child opened its own, the parent's lived on")

    def test_a_closed_connection_is_noticed_before_sending(self):
        def once(h, body):
            h.reply({"workers": []})
            h.hang_up()

        self.answer("POST", "workers", once)
        for _ in range(3):
            self.assertEqual(cdsw.launch_workers(1, 1, 1), [])
            select.select([_http._kept.conn.sock], [], [], DEADLINE)  # until the end of file is here
        self.assertEqual(len(self.server.requests), 3)

    def test_listing_is_sent_again_over_a_fresh_connection(self):
        broken = []

        def break_once(h, body):
            if not broken:
                broken.append(1)
                return h.hang_up()
            h.reply({"workers": []})

        cdsw.launch_workers(1, 1, 1)
        self.answer("GET", "workers", break_once)
        self.assertEqual(cdsw.list_workers(), [])
        self.assertEqual(len(self.server.requests), 3)

    def test_a_launch_that_is_sent_twice_has_one_key(self):
        cdsw.list_workers()
        keys = []

        def late(h, body):
            keys.append(body["key"])
            if len(keys) < 3:
                return h.hang_up()
            h.reply({"workers": []})

        self.answer("POST", "workers", late)
        with patience(30):
            cdsw.launch_workers(1, 1, 1)
        self.assertEqual((len(keys), len(set(keys)), len(keys[0])), (3, 1, 32))
        cdsw.launch_workers(1, 1, 1)
        self.assertNotEqual(keys[3], keys[0])

    def test_a_server_that_comes_back(self):
        """Whoever waits for workers waits for the next server, with the time that is left."""
        limits = []

        def late(h, body):
            limits.append(body["timeout_seconds"])
            if len(limits) < 3:
                return h.hang_up()
            h.reply({"workers": [], "failures": []})

        self.answer("POST", "await", late)
        with patience(30):
            cdsw.await_workers(timeout_seconds=40)
        self.assertEqual((len(limits), limits[0]), (3, 40))
        self.assertTrue(40 > limits[1] > limits[2] > 0)

    def test_logs_of_a_server_that_comes_back(self):
        cdsw.launch_workers(1, 1, 1)
        usual, asked = fakeserver.log, []

        def late(h, body):
            asked.append(body)
            return usual(h, body) if len(asked) > 2 else h.hang_up()

        self.server.answers["GET", "/engines/%s/log" % fakeserver.worker_id(0)] = late
        with patience(30):
            self.assertTrue(muster.worker_logs(fakeserver.worker_id(0)).startswith("one"))

    def test_an_interrupt_in_a_reply_leaves_a_clean_connection(self):
        """Else the next request is answered by the rest of a reply, or told to have failed when it was carried out."""
        cdsw.launch_workers(1, 1, 1)
        path = "/engines/%s/log" % fakeserver.worker_id(0)
        for call, route in ((cdsw.list_workers, "/sessions/self/workers"), (lambda: muster.worker_logs(fakeserver.worker_id(0)), path)):
            go_on = threading.Event()

            def slow(h, body):
                h.send_response(200)
                h.send_header("Content-Length", "10")
                h.end_headers()
                h.wfile.flush()
                go_on.wait(DEADLINE)
                h.wfile.write(b"0123456789")

            self.server.answers["GET", route] = slow
            with mock.patch.object(http.client.HTTPResponse, "read", side_effect=KeyboardInterrupt):
                with self.assertRaises(KeyboardInterrupt):
                    call()
            self.assertEqual(muster.restart_workers(fakeserver.worker_id(0))[0]["restart_of"], fakeserver.worker_id(0))
            go_on.set()

    def test_patience_ends(self):
        port = self.server.url
        self.server.close()
        with patience(0.2), self.assertRaises(muster.ServerDownError) as e:
            cdsw.list_workers()
        self.assertIn(port, str(e.exception))

    def test_restart_is_never_sent_twice(self):
        cdsw.list_workers()
        self.answer("POST", "restart", lambda h, b: h.hang_up())
        with patience(30), self.assertRaises(muster.ServerDownError) as e:
            muster.restart_workers("w000000000000000")
        self.assertIn("may have been carried out", str(e.exception))
        self.assertEqual(len(self.server.requests), 2)

    def test_stop_of_all_does_not_use_an_old_connection(self):
        cdsw.list_workers()
        for call, connections in ((cdsw.list_workers, 1), (lambda: cdsw.launch_workers(1, 1, 1), 1), (cdsw.stop_workers, 2)):
            _http._kept.conn.used -= 2 * _http._YOUNG
            call()
            self.assertEqual(self.server.connections, connections)

    def test_another_server_in_the_same_process(self):
        cdsw.list_workers()
        before = self.server
        self.setUp()
        cdsw.list_workers()
        self.assertEqual((len(before.requests), len(self.server.requests)), (1, 1))


@contextlib.contextmanager
def patience(seconds):
    _away.PATIENCE_SECONDS = seconds
    try:
        yield
    finally:
        _away.PATIENCE_SECONDS = 0.0


class Wrong(ServerCase):
    CALLS = (
        lambda: cdsw.launch_workers(1, 1, 1),
        cdsw.list_workers,
        cdsw.await_workers,
        cdsw.stop_workers,
    )
    ROUTES = (("POST", "workers"), ("GET", "workers"), ("POST", "await"), ("POST", "stop"))

    def each(self, answer, error, *words):
        for route, call in zip(self.ROUTES, self.CALLS):
            self.answer(route[0], route[1], answer)
            with self.assertRaises(error) as e:
                call()
            self.assertIsInstance(e.exception, muster.MusterError)
            self.assertTrue(e.exception.hint)
            for word in words + (self.server.url,):
                self.assertIn(word, str(e.exception))

    def test_rubbish(self):
        for payload, status in ((b"<html>hello</html>", 200), (b"", 200), (b"[1]", 200), (b"{}", 200), (b"null", 200),
                                (b"\xff\xfe", 200), (b"<html>bad gateway", 502), (b"{}", 500), (b'{"kind": 5}', 400),
                                (b'{"workers": 5, "results": 5}', 200), (b'{"workers": [5], "results": [5]}', 200),
                                (b"[" * 100_000, 200), (b'{"a": 1}', 301)):  # fmt: skip
            with self.subTest(payload=payload[:20], status=status):
                self.each(lambda h, b: h.reply(payload, status), muster.BadReplyError, "no Muster server", "MUSTER_URL")

    def test_no_http(self):
        def noise(h, body):
            h.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            h.hang_up()

        self.each(noise, muster.BadReplyError, "no HTTP")

    def test_another_version(self):
        self.server.version = "2"
        self.each(lambda h, b: h.reply({"workers": []}), muster.VersionError, "version 2", "same release")
        self.each(lambda h, b: h.reply({"kind": "x", "message": "y"}, 400), muster.VersionError, "version 2")

    def test_half_an_answer(self):
        def half(h, body):
            h.send_response(200)
            h.send_header("Content-Length", "1000")
            h.end_headers()
            h.wfile.write(b'{"workers"')
            h.hang_up()

        self.each(half, muster.ServerDownError, "broke the connection")

    def test_kinds(self):
        for kind, error in (("invalid", muster.InvalidError), ("not_found", muster.NotFoundError),
                            ("conflict", muster.ConflictError), ("internal", muster.InternalError),
                            ("unavailable", muster.UnavailableError), ("unauthorized", muster.UnauthorizedError),
                            ("no_capacity", muster.NoCapacityError), ("brand_new", muster.MusterError)):  # fmt: skip
            self.answer("GET", "workers", lambda h, b: h.reply({"kind": kind, "message": "m", "hint": "do h"}, 400))
            with self.assertRaises(error) as e:
                cdsw.list_workers()
            self.assertEqual((e.exception.kind, str(e.exception)), (kind, "m; do h"))
            again = pickle.loads(pickle.dumps(e.exception))
            self.assertEqual((type(again), str(again), again.kind), (type(e.exception), "m; do h", kind))

    def test_an_unknown_key_raises_in_launch_too(self):
        self.answer("POST", "workers", lambda h, b: h.reply({"kind": "unauthorized", "message": "m", "hint": ""}, 401))
        with self.assertRaises(muster.UnauthorizedError):
            cdsw.launch_workers(1, 1, 1)


class Lines(ServerCase):
    def lines(self, *lines):
        def answer(h, body):
            h.begin_lines()
            for line in lines:
                h.line(line)
            h.end_lines()

        self.answer("POST", "await", answer)

    def test_many_and_cut_anywhere(self):
        result = b'{"result":{"workers":[],"failures":[]}}\n'
        self.lines({"progress": {"done": 0, "of": 1}}, result[:9], result[9:])
        for _ in range(2):
            self.assertEqual(cdsw.await_workers(), {"workers": [], "failures": []})
        self.assertEqual(self.server.connections, 1, "the reply was read to its end")

    def test_errors(self):
        self.lines({"error": {"kind": "not_found", "message": "no worker abc", "hint": "list"}})
        with self.assertRaises(muster.NotFoundError):
            cdsw.await_workers()
        self.lines({"progress": {}})
        with self.assertRaises(muster.ServerDownError):
            cdsw.await_workers()
        for rubbish in (b"hello\n", b"[]\n"):
            self.lines(rubbish)
            with self.assertRaises(muster.BadReplyError):
                cdsw.await_workers()
        self.answer("POST", "await", None)
        cdsw.await_workers()

    def test_interrupt_leaves_a_clean_connection(self):
        begun = threading.Event()

        def slow(h, body):
            h.begin_lines()
            h.line({"progress": {"done": 0, "of": 1}})
            begun.wait(DEADLINE)
            h.line({"result": {"workers": [description(1)], "failures": []}})
            h.end_lines()

        def interrupt(progress):
            raise KeyboardInterrupt

        self.answer("POST", "await", slow)
        with self.assertRaises(KeyboardInterrupt):
            _http.stream("POST", "/sessions/self/await", {"all": True}, interrupt, 0)
        begun.set()
        self.assertEqual(cdsw.list_workers(), [])


class Nobody(unittest.TestCase):
    def tearDown(self):
        forget()

    def test_no_session(self):
        with Session(""):
            for call in Wrong.CALLS:
                with self.assertRaises(muster.NoSessionError) as e:
                    call()
                self.assertIn("muster run FILE", str(e.exception))

    def test_down(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
            url = "http://127.0.0.1:%d" % s.getsockname()[1]
            with Session(url):
                for call in Wrong.CALLS:
                    with self.assertRaises(muster.ServerDownError) as e:
                        call()
                    self.assertIn(url, str(e.exception))
                    self.assertIn("refused", str(e.exception))
                    self.assertIn("muster up", str(e.exception))

    def test_no_address(self):
        for url in ("127.0.0.1:80", "ftp://x", "http://", "http://h:port"):
            with Session(url):
                for call in Wrong.CALLS:
                    with self.assertRaises(muster.NoSessionError) as e:
                        call()
                    self.assertIn("http://host:port", str(e.exception))

    def test_importing_loads_nothing_heavy(self):
        code = (
            "import sys; before = set(sys.modules); import cdsw, cml, muster;"
            "print(sorted(m for m in set(sys.modules) - before if m.split('.')[0] not in ('cdsw', 'cml', 'muster', '_muster')))"
        )
        out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, universal_newlines=True)
        self.assertIn(out.stdout.strip(), ("['__future__']", "[]"))
