"""The line on a terminal."""

import os
import pty
import subprocess
import sys
import threading
import unittest

import cdsw
from _muster import _progress

from .case import ServerCase

DEADLINE = 30


class Screen:
    """A terminal that remembers what was written, and tells when something was."""

    def __init__(self, terminal=True):
        self.terminal = terminal
        self.written = ""
        self.shown = threading.Event()

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.written += text

    def flush(self):
        self.shown.set()


class Line(unittest.TestCase):
    def test_appears_and_is_cleared(self):
        screen = Screen()
        with self.assertRaises(KeyboardInterrupt):
            with _progress.line(screen) as show:
                show({"done": 1, "of": 3, "waiting": "2 cores wanted,\n1 free"})
                self.assertTrue(screen.shown.wait(DEADLINE))
                raise KeyboardInterrupt
        parts = screen.written.split("\r")
        self.assertEqual(parts[1], "waiting for workers: 1 of 3 done, 1 s (2 cores wanted, 1 free)")
        self.assertEqual((parts[0], parts[-2].strip(), parts[-1]), ("", "", ""))
        self.assertNotIn("\n", screen.written)
        self.assertGreaterEqual(len(parts[-2]), len(parts[-3].rstrip()))

    def test_nothing_for_a_short_wait_or_no_terminal(self):
        for terminal in (True, False):
            screen = Screen(terminal)
            with _progress.line(screen) as show:
                show({"done": 0, "of": 1})
            self.assertEqual(screen.written, "")

    def test_no_stderr_at_all(self):
        before, sys.stderr = sys.stderr, None
        try:
            with _progress.line() as show:
                show({})
        finally:
            sys.stderr = before


class Terminal(ServerCase):
    def test_on_a_real_one(self):
        shown = threading.Event()

        def slow(h, body):
            h.begin_lines()
            h.line({"progress": {"done": 0, "of": 1, "waiting": "for room"}})
            shown.wait(DEADLINE)
            h.line({"result": {"workers": [], "failures": []}})
            h.end_lines()

        self.answer("POST", "await", slow)
        main, side = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-c", "import cdsw; print(cdsw.await_workers())"], stderr=side, stdout=subprocess.PIPE
        )
        os.close(side)
        seen = b""
        while b"0 of 1 done" not in seen:
            seen += os.read(main, 1000)
        shown.set()
        out, _ = child.communicate(timeout=DEADLINE)
        os.close(main)
        self.assertEqual(out, b"{'workers': [], 'failures': []}\n")

    def test_piped(self):
        with self.stderr() as err:
            cdsw.await_workers()
        self.assertEqual(err.getvalue(), "")
