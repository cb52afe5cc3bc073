"""The threads that show the console, while the process forks."""

import os
import queue
import threading
import unittest
from unittest import mock

from _muster import _follow

from .case import ServerCase

DEADLINE = 30
OWN, WORKER = "session0session0", "worker1worker1wo"


class Screen:
    """A terminal that stands still until it is told to go on."""

    color = False
    interactive = True

    def __init__(self):
        self.writes, self.written = threading.Event(), threading.Event()
        self.go_on = threading.Event()
        self.shown = ""

    def place(self):
        return None

    def cursor(self, place, stream):
        return None

    def write(self, place, stream, text):
        self.writes.set()
        self.go_on.wait(DEADLINE)
        self.shown += text
        self.written.set()


def line(text):
    return {"engine": WORKER, "stream": "stdout", "text": text}


class Away(ServerCase):
    def test_a_server_that_is_busy_is_asked_again(self):
        """Too many requests, or a server that is just ending, is no end of the session."""
        refusals = [429, 503, 500]

        def console(h, body):
            if refusals:
                return h.reply({"kind": "unavailable", "message": "not now"}, refusals.pop())
            h.begin_lines()
            h.line(dict(line("one\n"), position="p1"))
            h.end_lines()

        self.answer("GET", "console", console)
        screen = Screen()
        screen.go_on.set()
        follower = _follow.Follower(OWN, screen)
        follower.start()
        self.assertTrue(follower._shown.wait(DEADLINE))
        self.assertTrue(screen.shown.startswith("[worker1w] one\nmuster: this session was ended"), screen.shown)
        self.assertTrue(follower.session_over)


class Half(ServerCase):
    def test_lines_that_are_not_ended(self):
        """Each is shown when its time has come, also one that is due before another that came earlier."""
        done = threading.Event()
        self.addCleanup(done.set)

        def console(h, body):
            h.begin_lines()
            h.line(line("half"))
            h.line(dict(line("10 %\r"), engine="another2another2"))
            done.wait(DEADLINE)
            h.end_lines()

        self.answer("GET", "console", console)
        screen = Screen()
        screen.go_on.set()
        follower = _follow.Follower(OWN, screen)
        follower.start()
        for text in "[another2] 10 %\r", "[another2] 10 %\r\n[worker1w] half":
            self.assertTrue(screen.written.wait(DEADLINE))
            screen.written.clear()
            self.assertEqual(screen.shown, text)
        self.assertFalse(follower._shown.is_set())
        done.set()
        self.assertTrue(follower._shown.wait(DEADLINE))


class Fork(unittest.TestCase):
    def setUp(self):
        with mock.patch.dict(os.environ, {"MUSTER_URL": "http://127.0.0.1:9", "CDSW_API_KEY": "key"}):
            self.screen = Screen()
            self.follower = _follow.Follower(OWN, self.screen)
        self.records = queue.Queue()
        self.thread = threading.Thread(target=self.show)
        self.thread.start()
        self.addCleanup(self.thread.join)
        self.addCleanup(self.records.put, None)
        self.addCleanup(self.screen.go_on.set)

    def show(self):
        """Be the thread that shows what the test has for it, to the end."""
        for record in iter(self.records.get, None):
            self.follower._show(record)
        self.follower._show(None)

    def test_beside_a_terminal_that_stands_still(self):
        self.records.put(line("one\n"))
        self.assertTrue(self.screen.writes.wait(DEADLINE))
        with mock.patch.object(_follow, "_FORK_SECONDS", 0.05):
            self.follower.before_fork()
        self.follower.after_fork()
        self.assertTrue(self.follower._writing.locked())  # the line is being written still
        self.screen.go_on.set()
        self.records.put(line("two\n"))
        self.records.put(None)
        self.assertTrue(self.follower._shown.wait(DEADLINE))
        self.assertEqual(self.screen.shown, "[worker1w] one\n[worker1w] two\n")

    def test_the_end_waits_for_who_reads_slowly(self):
        self.records.put(line("one\n"))
        self.assertTrue(self.screen.writes.wait(DEADLINE))
        self.records.put(None)
        self.follower._ask = lambda *request: None
        with mock.patch.object(_follow, "_END_SECONDS", 0.02):
            end = threading.Thread(target=self.follower.end)
            end.start()
            end.join(0.5)
            self.assertTrue(end.is_alive())
            self.screen.go_on.set()
            end.join(DEADLINE)
        self.assertFalse(end.is_alive())
        self.assertEqual(self.screen.shown, "[worker1w] one\n")

    def test_the_end_does_not_wait_for_a_server_that_is_silent(self):
        self.screen.go_on.set()
        self.records.put(line("one\n"))
        self.assertTrue(self.screen.writes.wait(DEADLINE))
        self.follower._ask = lambda *request: None
        with mock.patch.object(_follow, "_END_SECONDS", 0.02):
            self.follower.end()
        self.assertFalse(self.follower._shown.is_set())

    def test_a_child_inherits_no_lock(self):
        self.records.put(line("one\n"))
        self.assertTrue(self.screen.writes.wait(DEADLINE))
        with mock.patch.object(_follow, "_FORK_SECONDS", 0.05):
            self.follower.before_fork()
            child = os.fork()
            if child == 0:
                try:
                    self.follower.in_child()
                    os._exit(0 if self.follower._writing.acquire(False) else 1)
                finally:
                    os._exit(2)
        self.follower.after_fork()
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_while_a_reply_is_awaited(self):
        """A worker's line is there before the reply that tells to which launch it belongs: the fork does not wait for that."""
        waits = threading.Event()
        known = self.follower._place
        self.follower._labeler._place = lambda engine: (waits.set(), known(engine))[1]
        self.screen.go_on.set()
        self.follower.begin()
        self.addCleanup(self.follower.over)
        with mock.patch.object(_follow, "_REPLY_SECONDS", DEADLINE):
            self.records.put(line("one\n"))
            self.assertTrue(waits.wait(DEADLINE))
            self.follower.before_fork()
            held = self.follower._forking.held
            self.follower.after_fork()
        self.assertTrue(held)


class Attempts(unittest.TestCase):
    def test_where_the_first_one_belongs(self):
        with mock.patch.dict(os.environ, {"MUSTER_URL": "http://127.0.0.1:9", "CDSW_API_KEY": "key"}):
            follower = _follow.Follower(OWN, Screen())
        follower._screen.go_on.set()
        follower.launched("a cell", [{"id": WORKER}])
        for engine, of in (("second", WORKER), ("third", "second")):
            payload = '{"type":"retry","engine":"%s","retry_of":"%s","message":"again"}' % (engine, of)
            follower._take({"engine": OWN, "stream": "event", "text": payload})
        self.assertEqual([follower._place(e) for e in ("second", "third", "other")], ["a cell", "a cell", None])
