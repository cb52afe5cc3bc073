"""What the calls take beyond the original's arguments, and the calls that it did not have."""

import inspect
import os
import unittest

import cdsw
import cml
import muster

from .case import ServerCase
from .fakeserver import worker_id


class Names(unittest.TestCase):
    def test_by_keyword_alone(self):
        for call, names in (
            (cdsw.launch_workers, {"retries": 0, "timeout_seconds": None, "group": None}),
            (cdsw.list_workers, {"group": None}),
            (cdsw.await_workers, {"group": None}),
            (cdsw.stop_workers, {"group": None}),
        ):
            p = inspect.signature(call).parameters
            self.assertEqual({k: v.default for k, v in p.items() if v.kind is v.KEYWORD_ONLY}, names, call)
        self.assertEqual(list(inspect.signature(cdsw.launch_workers).parameters)[:12], [
            "n", "cpu", "memory", "nvidia_gpu", "kernel", "script", "code", "accelerator_label_id", "resource_profile_id",
            "resource_group_id", "env", "name",
        ])  # fmt: skip

    def test_where_the_new_calls_are(self):
        for name in ("restart_workers", "worker_logs"):
            self.assertIs(getattr(cdsw, name), getattr(muster, name))
            self.assertFalse(hasattr(cml, name))


class Launch(ServerCase):
    def sent(self, **kwargs):
        cdsw.launch_workers(1, 1, 1, code="1", **kwargs)
        return self.server.requests[-1]["body"]

    def test_not_given_is_not_sent(self):
        for nothing in ({}, {"retries": 0, "timeout_seconds": None, "group": None}):
            body = self.sent(**nothing)
            self.assertFalse({"retries", "timeout_seconds", "group"} & set(body), body)

    def test_given(self):
        body = self.sent(retries="3", timeout_seconds=0.5, group="fits")
        self.assertEqual((body["retries"], body["timeout_seconds"], body["group"]), (3, 0.5, "fits"))

    def test_bad(self):
        for kwargs, error, says in (
            ({"retries": -1}, ValueError, "retries must be a whole number from 0 to 1000, not -1"),
            ({"retries": 1001}, ValueError, "from 0 to 1000"),
            ({"retries": 1.5}, ValueError, "whole number"),
            ({"retries": True}, TypeError, "retries must be a number"),
            ({"retries": None}, TypeError, "retries must be a number"),
            ({"timeout_seconds": 0}, ValueError, "above 0 and at most ten years: 0 (None means no time limit)"),
            ({"timeout_seconds": -1}, ValueError, "above 0"),
            ({"timeout_seconds": 4e8}, ValueError, "ten years"),
            ({"timeout_seconds": float("inf")}, ValueError, "finite"),
            ({"timeout_seconds": "soon"}, ValueError, "must be a number"),
            ({"group": ""}, ValueError, "group must not be empty"),
            ({"group": 7}, TypeError, "group must be text, not int"),
            ({"group": "\udc80"}, ValueError, "not UTF-8"),
        ):
            with self.assertRaises(error, msg=kwargs) as e:
                cdsw.launch_workers(1, 1, 1, code="1", **kwargs)
            self.assertIn(says, str(e.exception))
        self.assertEqual(self.server.requests, [])


class Groups(ServerCase):
    def test_named(self):
        cdsw.launch_workers(2, 1, 1, code="1")
        cdsw.list_workers(group="a b&c")
        self.assertEqual(self.server.paths()[-1], ("GET", "/muster/v1/sessions/self/workers?group=a%20b%26c"))
        self.server.answers["POST", "/sessions/self/await"] = lambda h, body: h.reply({"workers": [], "failures": []})
        self.server.answers["POST", "/sessions/self/stop"] = lambda h, body: h.reply({"results": []})
        self.assertEqual(cdsw.await_workers(group="g"), {"workers": [], "failures": []})
        self.assertEqual(self.server.bodies()[-1], {"group": "g", "wait_for_completion": True, "timeout_seconds": 60})
        self.assertIsNone(cdsw.stop_workers(group="g"))
        self.assertEqual(self.server.bodies()[-1], {"group": "g"})

    def test_and_ids(self):
        for call in (lambda: cdsw.await_workers([], group="g"), lambda: cdsw.stop_workers("x", group="g")):
            with self.assertRaises(ValueError) as e:
                call()
            self.assertIn("both were given: group='g'", str(e.exception))
        for call in (cdsw.list_workers, cdsw.await_workers, cdsw.stop_workers):
            with self.assertRaises(ValueError) as e:  # it would mean all of them
                call(group="")
            self.assertIn("must not be empty", str(e.exception))
        self.assertEqual(self.server.requests, [])


class Restart(ServerCase):
    def test_forms(self):
        ws = cdsw.launch_workers(2, 1, 1, code="1")
        for args in ((ws,), (ws[0], ws[1]["id"]), ([ws[0]["id"]], {"id": ws[1]["id"]})):
            got = cdsw.restart_workers(*args)
            self.assertEqual(self.server.bodies()[-1], {"ids": [worker_id(0), worker_id(1)]})
            self.assertEqual([w["restart_of"] for w in got], [worker_id(0), worker_id(1)])
            self.assertNotIn(got[0]["id"], (worker_id(0), worker_id(1)))

    def test_refused(self):
        with self.stderr() as said:
            got = cdsw.restart_workers("gone", {"message": "no GPU"})
        self.assertEqual([w.get("id") for w in got], [None, None])
        self.assertEqual(got[0]["message"], "it is forgotten")
        self.assertEqual(said.getvalue(), "muster: 1 worker refused: no id: no GPU\n")
        self.server.answers["POST", "/sessions/self/restart"] = lambda h, body: h.reply(
            {"kind": "conflict", "message": "it has ended"}, 409
        )
        with self.stderr():
            got = cdsw.restart_workers("a", "b")
        self.assertEqual([w["message"] for w in got], ["it has ended"] * 2)

    def test_nothing(self):
        self.assertEqual(cdsw.restart_workers([]), [])
        with self.assertRaises(TypeError):
            cdsw.restart_workers()
        self.assertEqual(self.server.requests, [])


class Logs(ServerCase):
    def test_text(self):
        ws = cdsw.launch_workers(1, 1, 1, code="1")
        for named in (ws[0], ws[0]["id"], ws):
            self.assertEqual(muster.worker_logs(named), "one\ntw\u00f6\n\ufffd\n")
        base = "/muster/v1/engines/%s/log?raw=true" % worker_id(0)
        self.assertEqual(self.server.paths()[-1], ("GET", base))
        muster.worker_logs(ws[0], "stderr", 20)
        self.assertEqual(self.server.paths()[-1], ("GET", base + "&stream=stderr&tail=20"))

    def test_bad(self):
        for args, error in (
            (("a", "stdin"), ValueError), (("a", None, 0), ValueError), (("a", None, 1.5), ValueError), (("a", None, "x"), ValueError),
            (("a", None, 10**20), ValueError), (("",), ValueError), ((worker_id(0).encode(),), TypeError), (([b"w"],), TypeError),
            (([],), TypeError), ((["a", "b"],), TypeError), ((None,), ValueError), (({"message": "no GPU"},), ValueError),
        ):  # fmt: skip
            with self.assertRaises(error, msg=args):
                muster.worker_logs(*args)
        with self.assertRaisesRegex(ValueError, "tail must be a whole number of lines from 1 to 100000, not 1000000"):
            muster.worker_logs("a", tail=10**6)
        os.environ["CDSW_MASTER_ID"] = "session0session0"
        for beginning in ("w", "w00000", "w00000000", worker_id(0)[:-1], 7, "session0", "session0session0"):
            with self.assertRaisesRegex(muster.NotFoundError, "no worker of this session has the id '%s'" % beginning):
                muster.worker_logs(beginning)
        self.assertEqual(self.server.requests, [])
        with self.assertRaises(muster.NotFoundError):
            muster.worker_logs("a/b?c/d?")
        self.assertEqual(self.server.paths(), [("GET", "/muster/v1/engines/a%2Fb%3Fc%2Fd%3F/log?raw=true")])

    def test_damaged(self):
        """What can be read is returned, and what cannot is told."""

        def damaged(h, body):
            h.begin_lines("application/octet-stream")
            h.line(b"one\n")
            h.end_lines({"Muster-Damaged": "console file /t\u00fcr/w.log is damaged at byte 31"})

        self.server.answers["GET", "/engines/%s/log" % worker_id(0)] = damaged
        for _ in range(2):  # the connection is kept
            with self.assertWarnsRegex(RuntimeWarning, "^muster: console file /t\u00fcr/w.log is damaged at byte 31$") as said:
                self.assertEqual(muster.worker_logs(worker_id(0)), "one\n")
            self.assertEqual(said.filename, __file__)

    def test_no_server_of_ours(self):
        path = "/engines/%s/log" % worker_id(0)
        for answer in (
            lambda h, body: h.reply({"workers": []}),
            lambda h, body: h.reply(b"<html>", kind="text/html"),
            lambda h, body: h.reply(b"", 500, "application/octet-stream"),
        ):
            self.server.answers["GET", path] = answer
            with self.assertRaises(muster.BadReplyError):
                muster.worker_logs(worker_id(0))
        self.server.answers["GET", path] = lambda h, body: h.hang_up()
        with self.assertRaises(muster.ServerDownError):
            muster.worker_logs(worker_id(0))

    def test_cut_off(self):
        def half(h, body):
            h.begin_lines()
            h.line(b"half")
            h.hang_up()

        self.server.answers["GET", "/engines/%s/log" % worker_id(0)] = half
        with self.assertRaises(muster.ServerDownError):
            muster.worker_logs(worker_id(0))
