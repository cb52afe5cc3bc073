"""The four calls: what they send, and what they return."""

import decimal
import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import traceback
import types
import unittest

import cdsw
import cml
import cml.utils_v1
import cml.workers_v1
import muster

from .case import ServerCase
from .fakeserver import description, worker_id


class Names(unittest.TestCase):
    def test_the_same_functions_everywhere(self):
        for name in ("launch_workers", "list_workers", "await_workers", "stop_workers"):
            for module in (cdsw, cml, cml.workers_v1, cml.utils_v1._emulate_cdsw()):
                self.assertIs(getattr(module, name), getattr(muster, name))

    def test_signature(self):
        p = inspect.signature(cdsw.launch_workers).parameters
        self.assertEqual(list(p)[:7], ["n", "cpu", "memory", "nvidia_gpu", "kernel", "script", "code"])
        for name in ("name", "accelerator_label_id", "resource_profile_id", "resource_group_id"):
            self.assertIsNone(p[name].default)
        defaults = {k: p[k].default for k in ("nvidia_gpu", "kernel", "script", "code", "env")}
        self.assertEqual(defaults, {"nvidia_gpu": 0, "kernel": "python3", "script": "", "code": "", "env": {}})
        self.assertEqual(repr(p["kernel"].default), "'python3'")
        p = inspect.signature(cdsw.await_workers).parameters
        self.assertEqual((p["wait_for_completion"].default, p["timeout_seconds"].default), (True, 60))

    def test_nothing_else_is_needed(self):
        """No package of anybody's: the modules import in an interpreter that sees none. One import of cml is enough."""
        folder = os.path.dirname(os.path.dirname(os.path.abspath(muster.__file__)))
        code = "import sys; sys.path.insert(0, %r); import cml, cdsw, _muster._http, _muster._progress; " % folder
        code += "print(cml.workers_v1.launch_workers is cdsw.launch_workers, cml.utils_v1._emulate_cdsw() is cdsw)"
        out = subprocess.check_output([sys.executable, "-I", "-S", "-c", code])
        self.assertEqual(out, b"True True\n")

    def test_all_names_exist(self):
        for module in (muster, cdsw, cml, cml.workers_v1, cml.utils_v1):
            for name in module.__all__:
                getattr(module, name)
        with self.assertRaises(AttributeError):
            muster.no_such_name


class Launch(ServerCase):
    def sent(self, *args, **kwargs):
        before = len(self.server.requests)
        cdsw.launch_workers(*args, **kwargs)
        self.assertEqual(len(self.server.requests), before + 1, "one round trip")
        return self.server.requests[-1]["body"]

    def test_defaults_and_headers(self):
        got = cdsw.launch_workers(2, 0.2, 0.5, code="1")
        self.assertEqual([w["id"] for w in got], [worker_id(0), worker_id(1)])
        self.assertTrue(all(type(w) is dict for w in got))
        json.dumps(got)
        r = self.server.requests[0]
        self.assertEqual((r["method"], r["path"]), ("POST", "/muster/v1/sessions/self/workers"))
        self.assertEqual(r["headers"]["Authorization"], "Bearer key")
        self.assertEqual(r["headers"]["Muster-Api-Version"], "1")
        self.assertEqual(len(r["body"].pop("key")), 32)
        self.assertEqual(r["body"], {"n": 2, "cpu": 0.2, "memory": 0.5, "nvidia_gpu": 0, "kernel": "python3",
                                     "script": "", "code": "1", "env": {}, "name": ""})  # fmt: skip

    def test_kernel(self):
        for kwargs, kernel in (
            ({"script": "a.py"}, "python3"),
            ({"script": "a.r"}, "r"),
            ({"script": "dir.r/a.R"}, "r"),
            ({"script": "a.scala"}, "scala"),
            ({"script": "a"}, "python3"),
            ({"script": "a.jl"}, ""),
            ({"code": "1"}, "python3"),
            ({"script": "a.r", "kernel": "python3"}, "python3"),
            ({"script": "a.py", "kernel": "python2"}, "python2"),
            ({"script": "a.r", "kernel": None}, "r"),
            ({"script": pathlib.Path("a.r")}, "r"),
        ):
            self.assertEqual(self.sent(1, 1, 1, **kwargs)["kernel"], kernel, kwargs)

    def test_numbers(self):
        b = self.sent("2", "0.5", "1", "0", code="1")
        self.assertEqual((b["n"], b["cpu"], b["memory"], b["nvidia_gpu"]), (2, 0.5, 1, 0))
        b = self.sent(2.0, decimal.Decimal("0.25"), 1e-3)
        self.assertEqual((b["n"], b["cpu"], b["memory"]), (2, 0.25, 0.001))
        b = self.sent(1, -1, 0, -5)  # for the server to refuse
        self.assertEqual((b["cpu"], b["memory"], b["nvidia_gpu"]), (-1, 0, -5))

    def test_no_numbers(self):
        nan, inf = float("nan"), float("inf")
        for args, error in (
            (("two", 1, 1), ValueError), (("", 1, 1), ValueError), ((1, "lots", 1), ValueError), ((1, 1, "1 GB"), ValueError),
            ((None, 1, 1), TypeError), ((1, None, 1), TypeError), ((1, 1, None), TypeError), ((1, 1, 1, None), TypeError),
            ((True, 1, 1), TypeError), ((1, True, 1), TypeError), (([1], 1, 1), TypeError), ((1, {}, 1), TypeError),
            ((1, 1j, 1), TypeError), ((1, nan, 1), ValueError), ((1, 1, "nan"), ValueError), ((nan, 1, 1), ValueError),
            ((1, inf, 1), ValueError), ((inf, 1, 1), ValueError), ((-1, 1, 1), ValueError), ((10_001, 1, 1), ValueError),
            ((1.5, 1, 1), ValueError), ((10**400, 1, 1), ValueError), ((1, 1, 1, "one"), ValueError),
        ):  # fmt: skip
            with self.assertRaises(error, msg=args):
                cdsw.launch_workers(*args)
        self.assertEqual(self.server.requests, [])

    def test_none_wanted(self):
        self.assertEqual(cdsw.launch_workers(0, 1, 1), [])
        self.assertEqual(self.server.requests, [])

    def test_env(self):
        got = self.sent(1, 1, 1, env={"A": 1, "B": 0.5, "C": True, "D": None, "E": "é\n", "F": b"x", "G": pathlib.Path("/p")})
        self.assertEqual(got["env"],
                         {"A": "1", "B": "0.5", "C": "True", "D": "", "E": "é\n", "F": "x", "G": "/p"})  # fmt: skip
        for nothing in (None, "", [], {}, ()):
            self.assertEqual(self.sent(1, 1, 1, env=nothing)["env"], {})
        self.assertEqual(self.sent(1, 1, 1, env=types.MappingProxyType({"A": "1"}))["env"], {"A": "1"})
        for bad in ("A=1", ["A"], 5, [("A", 1)], {1: "x"}):
            with self.assertRaises(TypeError, msg=bad):
                cdsw.launch_workers(1, 1, 1, env=bad)
        for bad in ({"": "x"}, {"A=B": "x"}, {"A\0": "x"}):
            with self.assertRaises(ValueError, msg=bad):
                cdsw.launch_workers(1, 1, 1, env=bad)

    def test_env_in_eighth_place(self):
        self.assertEqual(self.sent(1, 1, 1, 0, "python3", "", "1", {"A": 1})["env"], {"A": "1"})
        for label in (None, "", -1, 3, "7"):
            self.assertEqual(self.sent(1, 1, 1, 0, "python3", "", "1", label)["env"], {})
        self.assertEqual(self.sent(1, 1, 1, 0, "python3", "", "1", -1, 2, 3, {"A": 1}, "me")["env"], {"A": "1"})
        with self.assertRaises(TypeError):
            cdsw.launch_workers(1, 1, 1, 0, "python3", "", "1", {"A": 1}, env={"B": 1})

    def test_the_default_env_stays_empty(self):
        self.sent(1, 1, 1, env={"A": "1"})
        self.assertEqual(inspect.signature(cdsw.launch_workers).parameters["env"].default, {})

    def test_refused_descriptions_are_passed_on(self):
        reply = {"workers": [description(0), {"message": "no GPU", "k8sMessage": "no GPU", "engineId": "x"}]}
        self.answer("POST", "workers", lambda h, b: h.reply(reply))
        self.assertEqual(cdsw.launch_workers(2, 1, 1), reply["workers"])

    def test_a_refused_request_is_refused_descriptions(self):
        for kind, status in (("invalid", 400), ("no_capacity", 422), ("unavailable", 503), ("internal", 500), ("new", 418)):
            error = {"kind": kind, "message": "cpu is -1", "hint": "ask for more"}
            self.answer("POST", "workers", lambda h, b: h.reply(error, status))
            with self.stderr() as err:
                got = cdsw.launch_workers(2, -1, 1)
            self.assertEqual(len(got), 2)
            for w in got:
                self.assertNotIn("id", w)
                self.assertEqual(w["message"], "cpu is -1; ask for more")
                self.assertEqual((w["k8sMessage"], w["engineId"]), (w["message"], ""))
            self.assertEqual(err.getvalue(), "muster: 2 workers refused: cpu is -1; ask for more\n")

    def test_what_no_request_can_carry_is_refused(self):
        for kwargs, words in (
            ({"script": 5}, "script must be text"),
            ({"code": "\udc80"}, "code is not UTF-8"),
            ({"code": b"\xff"}, "code is not UTF-8"),
            ({"env": {"A": "\udc80"}}, "env: A is not UTF-8"),
            ({"kernel": 3}, "kernel must be text"),
            ({"code": "#" + "x" * (50 << 20)}, "the request has 50 MB: at most 4 MB are taken"),
        ):
            with self.stderr() as err:
                got = cdsw.launch_workers(1, 1, 1, **kwargs)
            self.assertEqual(len(got), 1)
            self.assertNotIn("id", got[0])
            self.assertIn(words, got[0]["message"])
            self.assertIn(words, err.getvalue())
        self.assertEqual(self.server.requests, [])

    def test_ten_thousand(self):
        got = cdsw.launch_workers(10_000, 1, 1)
        self.assertEqual([w["id"] for w in got], [worker_id(i) for i in range(10_000)])
        self.assertEqual(len(cdsw.list_workers()), 10_000)


class Ids(ServerCase):
    def setUp(self):
        super().setUp()
        self.workers = cdsw.launch_workers(3, 1, 1)
        self.ids = [w["id"] for w in self.workers]
        self.server.requests.clear()

    def test_list_is_newest_first(self):
        self.assertEqual([w["id"] for w in cdsw.list_workers()], self.ids[::-1])

    def test_await_takes_ids_in_all_forms(self):
        a, b = self.ids[:2]
        for ids, sent in (
            (a, [a]), ([a, b], [a, b]), (self.workers[0], [a]), (self.workers[:2], [a, b]), ((a, self.workers[1]), [a, b]),
            (iter([a]), [a]), ({a: 1}.keys(), [a]), ((w for w in self.workers[:1]), [a]), (7, ["7"]),
        ):  # fmt: skip
            got = cdsw.await_workers(ids)
            self.assertEqual(self.server.requests[-1]["body"],
                             {"ids": sent, "wait_for_completion": True, "timeout_seconds": 60})  # fmt: skip
            self.assertEqual([w["id"] for w in got["workers"]], [i for i in sent if i in self.ids])
        for everything in ((), (None,)):
            self.assertEqual(len(cdsw.await_workers(*everything)["workers"]), 3)
            self.assertTrue(self.server.requests[-1]["body"]["all"])
        for bad in (5.5, True, object()):
            with self.assertRaises(TypeError):
                cdsw.await_workers(bad)

    def test_await_arguments(self):
        for timeout, sent in ((0, 0), (None, 0), ("2.5", 2.5), (float("inf"), 0), (1e300, 0)):
            cdsw.await_workers(self.ids, False, timeout)
            body = self.server.requests[-1]["body"]
            self.assertEqual((body["wait_for_completion"], body["timeout_seconds"]), (False, sent))
        for bad, error in ((-1, ValueError), (float("nan"), ValueError), ("soon", ValueError), (True, TypeError)):
            with self.assertRaises(error):
                cdsw.await_workers(self.ids, timeout_seconds=bad)

    def test_a_column_of_a_table_is_a_list_of_ids(self):
        class Series(list):  # as pandas has it: beside the values it has keys and can be indexed by them
            keys = lambda self: range(len(self))

        got = cdsw.await_workers(Series(self.ids))
        self.assertEqual([w["id"] for w in got["workers"]], self.ids)

    def test_await_of_refused_workers(self):
        refused = {"message": "no", "k8sMessage": "no", "engineId": ""}
        got = cdsw.await_workers(self.workers[:1] + [refused])
        self.assertEqual(([w["id"] for w in got["workers"]], got["failures"]), (self.ids[:1], [refused]))
        self.server.requests.clear()
        self.assertEqual(cdsw.await_workers([refused]), {"workers": [], "failures": [refused]})
        self.assertEqual(cdsw.await_workers([]), {"workers": [], "failures": []})
        self.assertEqual(self.server.requests, [], "no ids must never become all ids")

    def test_interrupted_await_shows_the_caller(self):
        over = threading.Event()
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))

        def slow(h, body):
            h.begin_lines()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            over.wait(30)

        self.answer("POST", "await", slow)
        for call in (lambda: cdsw.await_workers(), lambda: self.in_a_handler()):
            try:  # assertRaises would take the traceback away
                call()
                self.fail("not interrupted")
            except KeyboardInterrupt as e:
                frames = [os.path.basename(f.filename) for f in traceback.extract_tb(e.__traceback__)]
                context = e.__context__
            self.assertEqual(frames.count("_workers.py"), 1, frames)
            self.assertEqual(set(frames[:-1]), {"test_workers.py"}, frames)
        self.assertIsInstance(context, ZeroDivisionError)  # the caller's, and shown with it
        over.set()

    def in_a_handler(self):
        try:
            return 1 / 0
        except ZeroDivisionError:
            return cdsw.await_workers()

    def test_await_without_lines(self):
        self.answer("POST", "await", lambda h, b: h.reply({"workers": [], "failures": [description(0)]}))
        self.assertEqual(cdsw.await_workers(), {"workers": [], "failures": [description(0)]})
        self.answer("POST", "await", lambda h, b: h.reply({"workers": None, "failures": None}))
        self.assertEqual(cdsw.await_workers(), {"workers": [], "failures": []})

    def test_stop_takes_ids_in_all_forms(self):
        a, b, c = self.ids
        for args, sent in (
            ((a,), [a]), ((a, b), [a, b]), (([a, b],), [a, b]), ((self.workers[0], [self.workers[1]], c), [a, b, c]),
            ((self.workers,), self.ids), ((set([a]),), [a]),
        ):  # fmt: skip
            got = cdsw.stop_workers(*args)
            self.assertEqual(self.server.requests[-1]["body"], {"ids": sent})
            self.assertEqual([r.status_code for r in got], [204] * len(sent))
            self.assertEqual(repr(got), "[" + ", ".join(["<Response [204]>"] * len(sent)) + "]")
            self.assertTrue(all(r.ok and r and r.text == "" and r.content == b"" for r in got))
        self.assertEqual(len(cdsw.stop_workers()), 3)
        self.assertEqual(self.server.requests[-1]["body"], {"all": True})

    def test_stop_of_what_is_not_there(self):
        got = cdsw.stop_workers("nosuchworker0000")
        self.assertEqual((got[0].status_code, got[0].ok, repr(got[0])), (404, False, "<Response [404]>"))
        self.assertIn("nosuchworker0000", got[0].text)
        self.server.workers = []
        self.assertIsNone(cdsw.stop_workers())
        self.server.requests.clear()
        self.assertIsNone(cdsw.stop_workers([]))
        self.assertEqual([r.status_code for r in cdsw.stop_workers(None)], [404])
        self.assertEqual([r.status_code for r in cdsw.stop_workers({"message": "no"})], [404])
        self.assertEqual(self.server.requests, [], "no ids must never become all ids")


class Small(ServerCase):
    def test_auth_and_tracking(self):
        self.assertEqual(cdsw.get_auth(), {"user": "key", "password": ""})
        self.assertEqual(cml.utils_v1.get_auth(), {"user": "key", "password": ""})
        self.assertIsNone(cdsw.track_metric("a", 1))
        self.assertIsNone(cdsw.track_file("a"))
        self.assertEqual(self.server.requests, [])
