"""Lines of several engines in one place."""

import json
import unittest

from _muster import _labels

OWN, W1, W2 = "session0session0", "worker1worker1wo", "another2another2"


class Screen:
    color = False

    def __init__(self, color=False, together=True):
        self.color = color
        self.together = together
        self.writes = []

    def cursor(self, place, stream):
        return place if self.together else (place, stream)

    def write(self, place, stream, text):
        self.writes.append((place, stream, text))

    def text(self, stream=None):
        return "".join(t for _, s, t in self.writes if stream in (None, s))


def labeler(screen, place=lambda engine: None):
    return _labels.Labeler(OWN, place, screen)


def play(steps, screen, close=True):
    """steps: (engine, stream, text), or a number of seconds in which nothing comes."""
    now, lines = 100.0, labeler(screen)
    for step in steps:
        if isinstance(step, float):
            now += step
            lines.expire(now)
        elif step[1] == "event":
            lines.event(step[0], json.dumps(step[2]).encode())
        else:
            data = step[2] if isinstance(step[2], bytes) else step[2].encode()
            lines.text(step[0], step[1], data, now)
        lines.send()
    if close:
        lines.close()
        lines.send()
    return screen.text()


def out(engine, text):
    return engine, "stdout", text


def err(engine, text):
    return engine, "stderr", text


def event(engine, **keys):
    return engine, "event", keys


class Lines(unittest.TestCase):
    # The cases of the server's own labels (internal/console/view), which these are to look like.
    CASES = [
        ("whole lines", [out(W1, "one\ntwo\n"), out(W2, "three\n")], "[worker1w] one\n[worker1w] two\n[another2] three\n"),
        ("in pieces", [out(W1, "on"), out(W2, "tw"), out(W1, "e\n"), out(W2, "o\n")], "[worker1w] one\n[another2] two\n"),
        ("names", [event(W1, type="engine", name="trainer"), event(W2, type="engine", name="Untitled Worker"),
                   out(W1, "x\n"), out(W2, "y\n")], "[trainer] x\n[another2] y\n"),
        ("a name that two have", [event(W1, type="engine", name="w"), event(W2, type="engine", name="w"),
                                  out(W1, "x\n"), out(W2, "y\n")], "[w] x\n[w anot] y\n"),
        ("a name that plays tricks", [event(W1, type="engine", name="a\n\x1b[31mb"), out(W1, "x\n")], "[a??[31mb] x\n"),
        ("no final newline", [out(W1, "\n\nend")], "[worker1w] \n[worker1w] \n[worker1w] end\n"),
        ("a half line goes on", [out(W1, "load"), 0.101, out(W1, "ing"), 0.101, out(W1, " done\n")], "[worker1w] loading done\n"),
        ("a half line is interrupted", [out(W1, "load"), 1.001, out(W2, "hello\n"), out(W1, "ed\n")],
         "[worker1w] load\n[another2] hello\n[worker1w] ed\n"),
        ("a newline that comes late", [out(W1, "load"), 1.001, out(W2, "hello\n"), out(W1, "\n"), out(W1, "\n")],
         "[worker1w] load\n[another2] hello\n[worker1w] \n"),
        ("the session's newline that comes late", [out(OWN, "load"), 0.101, out(W2, "hello\n"), out(OWN, "\nx\n")],
         "load\n[another2] hello\nx\n"),
        ("a half line that is soon complete", [out(W1, "load"), 0.999, out(W2, "hello\n"), out(W1, "ed\n")],
         "[another2] hello\n[worker1w] loaded\n"),
        ("progress", [out(W1, "\r1%"), 0.101, out(W2, "a\n"), out(W1, "\r2%"), 0.099, out(W2, "b\n"), out(W1, "\r3%\r\n")],
         "[worker1w] \r1%\n[another2] a\n[another2] b\n[worker1w] \r2%\r3%\r\n"),
        ("it begins to paint", [out(W1, "load"), 0.5, out(W1, "\b"), 0.101, out(W2, "a\n")], "[worker1w] load\b\n[another2] a\n"),
        ("it paints when it is almost due", [out(W1, "load"), 0.95, out(W1, "\x1b[K"), 0.051, out(W2, "a\n")],
         "[worker1w] load\x1b[K\n[another2] a\n"),
        ("the session passes as it is", [out(OWN, "a"), err(OWN, "b\r"), out(OWN, "\0\nc"), out(OWN, "\n")], "b\ra\0\nc\n"),
        ("the session's streams do not tear each other's lines",
         [out(OWN, "o "), err(OWN, "e "), out(OWN, "1"), err(OWN, "1\n"), out(OWN, "\n")], "e 1\no 1\n"),
        ("a line that was painted and cleared", [err(OWN, "\rwait"), err(OWN, "\r    \r"), out(OWN, "done\n")],
         "\rwait\r    \rdone\n"),
        ("no label behind the session's half line", [out(OWN, ">>> "), 0.101, out(W1, "hi\n"), out(OWN, "1+1\n")],
         ">>> \n[worker1w] hi\n1+1\n"),
        ("the session's line in pieces", [out(OWN, "got"), out(OWN, " "), out(W1, "hi\n"), out(OWN, "it\n")],
         "[worker1w] hi\ngot it\n"),
        ("the session's two half lines", [out(OWN, "a"), err(OWN, "b"), out(W1, "hi\n"), out(OWN, "c\n")],
         "[worker1w] hi\nac\nb"),
        ("the session behind a worker's half line", [out(W1, "hi"), 1.001, out(OWN, "x\n"), out(W1, "!\n")],
         "[worker1w] hi\nx\n[worker1w] !\n"),
        ("the session's half line stays one", [out(OWN, "bye")], "bye"),
        ("both streams of one", [out(W1, "a\n"), err(W1, "b\n")], "[worker1w] a\n[worker1w] b\n"),
        ("half a character", [out(W1, b"\xc3"), out(W1, b"\xa4\n")], "[worker1w] \xe4\n"),
        ("no text", [out(W1, b"\xff\n")], "[worker1w] \ufffd\n"),
        ("it failed", [out(W1, "x"), event(W1, type="exit", status="failed", message="ended with exit code 3")],
         "[worker1w] x\nmuster: worker worker1w ended with exit code 3\n"),
        ("it ran too long", [event(W1, type="exit", status="timedout", message="ended at its time limit of 2 s")],
         "muster: worker worker1w ended at its time limit of 2 s\n"),
        ("it is tried again", [(OWN, "event", {"type": "retry", "engine": W2, "retry_of": W1, "message": "worker a is tried again"})],
         "muster: worker a is tried again\n"),
        ("it did not fail", [event(W1, type="exit", status="stopped", message="stopped by user")], ""),
        ("a notice of the session", [event(OWN, type="notice", message="a\nb")], "muster: a\nmuster: b\n"),
        ("the session's end", [event(OWN, type="exit", status="failed", message="ended")], ""),
        ("of a newer version", [event(W1, type="confetti", message="x"), (W1, "event", [])], ""),
    ]  # fmt: skip

    def test_lines(self):
        for name, steps, want in self.CASES:
            with self.subTest(name):
                if name == "of a newer version":
                    steps = steps[:1]
                self.assertEqual(play(steps, Screen()), want)

    def test_a_last_line_is_a_whole_one_when_its_end_is_known(self):
        exit = event(W1, type="exit", status="succeeded")
        for name, steps, want in [
            ("held", [out(W1, "last"), exit], "[worker1w] last\n"),
            ("shown", [out(W1, "last"), 1.001, exit], "[worker1w] last\n"),
            ("interrupted", [out(W1, "last"), 1.001, out(W2, "x\n"), exit], "[worker1w] last\n[another2] x\n"),
            ("another's", [out(W1, "last"), out(W2, "x"), 1.001, exit], "[worker1w] last\n[another2] x"),
            ("both streams", [out(W1, "a"), err(W1, "b"), exit], "[worker1w] a\n[worker1w] b\n"),
        ]:
            with self.subTest(name):
                screen = Screen()
                play(steps, screen, close=False)
                self.assertEqual(screen.text(), want)

    def test_a_very_long_line_is_shown(self):
        screen = Screen()
        lines = labeler(screen)
        for _ in range(3):
            lines.text(W1, "stdout", b"x" * 40000, 0.0)
        lines.send()
        self.assertGreaterEqual(len(screen.text()), 65536)

    def test_colours_and_a_label_after_each_return(self):
        text = play([out(W1, "1%\r2%\r\n"), out(W2, "x\n")], Screen(color=True))
        self.assertEqual(text, "\x1b[36m[worker1w]\x1b[0m 1%\r\x1b[36m[worker1w]\x1b[0m 2%\r\n\x1b[33m[another2]\x1b[0m x\n")

    def test_two_places_know_nothing_of_each_other(self):
        screen = Screen()
        lines = labeler(screen, {W1: "cell 1", W2: "cell 2"}.get)
        for engine in (W1, W2):
            lines.text(engine, "stdout", b"half", 0.0)
        lines.expire(1.0)
        for engine in (W1, W2):
            lines.text(engine, "stdout", b" line\n", 1.0)
        lines.send()
        for place, label in (("cell 1", "[worker1w]"), ("cell 2", "[another2]")):
            self.assertEqual("".join(t for p, _, t in screen.writes if p == place), label + " half line\n")

    def test_streams_that_are_two_files(self):
        screen = Screen(together=False)
        play([out(W1, "half"), 1.2, err(W1, "whole\n"), out(W1, " line\n")], screen)
        self.assertEqual((screen.text("stdout"), screen.text("stderr")), ("[worker1w] half line\n", "[worker1w] whole\n"))

    def test_due(self):
        lines = labeler(Screen())
        self.assertEqual(lines.due(), float("inf"))
        lines.text(W1, "stdout", b"half", 10.0)
        self.assertAlmostEqual(lines.due(), 11.0)
        lines.text(W2, "stdout", b"1%\r", 10.1)  # later, and shown earlier
        self.assertAlmostEqual(lines.due(), 10.2)
        lines.expire(10.21)
        self.assertAlmostEqual(lines.due(), 11.0)
