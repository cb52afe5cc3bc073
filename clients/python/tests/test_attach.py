"""A process that belongs to no session becomes one: a program and a server of these tests play muster's parts."""

import json
import os
import socketserver
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest

from . import fakeserver

DEADLINE = 30
SESSION = "session0session0"
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("unix", 0)


def record(engine, stream, text, position="p"):
    return {"position": position, "engine": engine, "stream": stream, "time": "", "text": text}


class Attach(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.server = fakeserver.Server()  # in the session's network
        self.addCleanup(self.server.close)
        self.console = []  # what each reading of the console brings
        self.ended = threading.Event()
        self.refuse = []  # errors that creating a session is answered with, before it succeeds
        self.created = []
        self.server.answers[("DELETE", "/sessions/self")] = self.end
        self.server.answers[("GET", "/sessions/self/console?follow=true&from=")] = self.read
        self.owner()
        self.program('echo "$@" >>"%s/calls"; cat "%s/place"' % (self.folder, self.folder))

    def owner(self):
        path = os.path.join(self.folder, "socket")
        handler = type("Handler", (fakeserver.Handler,), {"disable_nagle_algorithm": False})
        unix = UnixServer(path, handler)
        unix.lock, unix.requests, unix.version = threading.Lock(), [], "1"
        unix.answers = {("POST", "/sessions"): self.create}
        thread = threading.Thread(target=unix.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(unix.server_close)
        self.addCleanup(unix.shutdown)
        with open(os.path.join(self.folder, "token"), "w") as f:
            f.write("owner's\n")
        with open(os.path.join(self.folder, "place"), "w") as f:
            json.dump({"address": "unix://" + path, "token_file": os.path.join(self.folder, "token")}, f)

    def program(self, script):
        self.muster = os.path.join(self.folder, "muster")
        with open(self.muster, "w") as f:
            f.write("#!/bin/sh\n" + script + "\n")
        os.chmod(self.muster, 0o755)

    def create(self, h, body):
        self.created.append((body, h.headers["Authorization"]))
        if self.refuse:
            return h.reply(*self.refuse.pop(0))
        env = {"MUSTER_URL": self.server.url, "CDSW_API_KEY": "key", "CDSW_IP_ADDRESS": "100.100.0.2", "CDSW_APP_PORT": "8090"}
        env["CDSW_ENGINE_ID"] = SESSION
        h.reply({"id": SESSION, "env": env}, 201)

    def read(self, h, body):
        h.begin_lines()
        for r in self.console.pop(0) if self.console else []:
            h.line(json.dumps(r).encode() + b"\n")
        if self.console:  # there is more to be read: this connection breaks
            return h.hang_up()
        self.ended.wait(DEADLINE)
        h.end_lines()

    def end(self, h, body):
        self.ended.set()
        h.reply(b"", 204)

    def run_python(self, code, **env):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("MUSTER_", "CDSW_", "CML_"))}
        environ.update(PYTHONPATH=HERE, MUSTER_BIN=self.muster)
        environ.update(env)
        environ = {k: v for k, v in environ.items() if v is not None}
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], cwd=self.folder, env=environ, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True, timeout=2 * DEADLINE,
        )  # fmt: skip

    def deletes(self):
        return [r for r in self.server.requests if r["method"] == "DELETE"]

    def test_import_is_enough(self):
        done = self.run_python(
            """
            import cdsw, cml, os, subprocess, sys
            print(os.environ["CDSW_IP_ADDRESS"], os.environ["CDSW_APP_PORT"], cdsw.get_auth()["user"], os.getpid())
            sys.stdout.flush()
            subprocess.check_call([sys.executable, "-c", "import cdsw"])  # belongs to the session
            """,
            MUSTER_TOKEN="",
            MUSTER_HOST="unix://%s/x" % self.folder,
            MPLBACKEND="module://matplotlib_inline.backend_inline",
            MINE="1",
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(self.created), 1)
        (body, authorization), pid = self.created[0], int(done.stdout.split()[3])
        self.assertEqual(done.stdout.split()[:3], ["100.100.0.2", "8090", "key"])
        self.assertEqual(authorization, "Bearer owner's")
        self.assertEqual((body["kind"], body["kernel"], body["owner_pid"]), ("attached", "python3", pid))
        self.assertEqual(os.path.realpath(body["project"]), os.path.realpath(self.folder))
        self.assertEqual(body["interpreter"], sys.executable)
        self.assertEqual(body["base_env"]["MINE"], "1")
        self.assertFalse({"MUSTER_HOST", "MUSTER_TOKEN", "MPLBACKEND"} & set(body["base_env"]))
        with open(os.path.join(self.folder, "calls")) as f:
            self.assertEqual(f.read(), "up --until-idle 10s --background --json --listen unix://%s/x\n" % self.folder)
        self.assertEqual(self.deletes(), [])  # nothing was launched: the end of the process is enough

    def test_muster_itself_waits_for_the_first_call(self):
        done = self.run_python("import muster, os; print(os.environ.get('CDSW_IP_ADDRESS')); print(muster.list_workers())")
        self.assertEqual(done.stdout, "None\n[]\n", done.stderr)

    def test_output_and_end(self):
        self.console = [
            [record(fakeserver.worker_id(0), "stdout", "one\n", "p1")],
            [record(SESSION, "event", '{"type":"notice","message":"a notice"}'), record(fakeserver.worker_id(1), "stderr", "two\n")],
        ]
        self.server.answers[("GET", "/sessions/self/console?follow=true&from=p1")] = self.read
        done = self.run_python(
            """
            import cdsw, contextlib, io, multiprocessing, os, sys, time
            from _muster import _session
            caught = io.StringIO()
            with contextlib.redirect_stdout(caught), contextlib.redirect_stderr(caught):
                cdsw.launch_workers(2, 1, 1)
                while not _session.follower._labeler.seen: time.sleep(0.01)
                time.sleep(0.2)  # what is shown in the wrong place is shown by now
            def childs(i): return _session.follower
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(childs, range(2)) == [None, None]  # it follows nothing, and waits for nobody who does
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
            print("caught", repr(caught.getvalue()))
            """
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(done.stdout.split("\n")), ["", "[w0000000] one", "caught ''"])
        self.assertEqual(sorted(done.stderr.split("\n")), ["", "[w0000000] two", "muster: a notice"])
        self.assertEqual(len(self.deletes()), 1)
        awaited = [r["body"] for r in self.server.requests if r["path"].endswith("/await")]
        self.assertEqual([b["timeout_seconds"] for b in awaited], [0.5])  # the last words of a script's workers

    def test_lines_of_the_script_stay_whole(self):
        """A print is several writes: a worker's line waits for the last one, and begins a new line if there is none."""

        def read(h, body):
            while not any(r["path"].endswith("/workers") for r in self.server.requests):
                time.sleep(0.001)
            self.read(h, body)

        self.server.answers[("GET", "/sessions/self/console?follow=true&from=")] = read
        code = """
            import cdsw, sys, time
            from _muster import _session
            print("half", end="", flush=True)
            cdsw.launch_workers(1, 1, 1)
            while _session.follower._screen._scripts["stdout"].line.open: time.sleep(0.001)
            print("over")
        """
        for unbuffered in "", "1":
            self.server.requests.clear()
            self.ended.clear()
            self.console = [[record(fakeserver.worker_id(0), "stdout", "one\n")]]
            done = self.run_python(code, PYTHONUNBUFFERED=unbuffered)
            self.assertEqual((done.stdout, done.stderr), ("half\n[w0000000] one\nover\n", ""))

    def test_a_process_that_executes_another_program(self):
        """It is the same process, and so the same session: what its workers print is shown on."""

        def read(h, body):  # to whoever comes, from the beginning
            self.console = [[record(fakeserver.worker_id(0), "stdout", "one\n")]]
            self.read(h, body)

        self.server.answers[("GET", "/sessions/self/console?follow=true&from=")] = read
        again = "import cdsw, importlib, _muster._session; cdsw.launch_workers(1, 1, 1); " + (
            "del sys.modules['_muster._session'], sys.modules['_muster._attach'];"
            "importlib.import_module('_muster._session').ready(); print('over')"
        )
        done = self.run_python("import cdsw, os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import sys;' + %r])" % again)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(set(done.stdout.split("\n")), {"", "[w0000000] one", "over"})
        self.assertEqual((len(self.created), len(self.deletes())), (1, 1))

    def test_a_console_that_is_lost(self):
        self.server.answers[("GET", "/sessions/self/console?follow=true&from=")] = lambda h, body: h.hang_up()
        done = self.run_python(
            """
            import cdsw
            from _muster import _session
            cdsw.launch_workers(1, 1, 1)
            _session.follower._shown.wait(6)
            """
        )
        self.assertEqual(done.returncode, 0)
        self.assertIn("muster: no server answers (", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_a_closed_stdout_harms_nobody(self):
        done = self.run_python("import cdsw, sys; sys.stdout.close(); cdsw.launch_workers(1, 1, 1); cdsw.list_workers()")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_server_that_is_just_ending(self):
        ending = ({"kind": "unavailable", "message": "it ends", "hint": ""}, 503)
        self.refuse = [ending, ending]
        done = self.run_python("import cdsw; print(len(cdsw.list_workers()))")
        self.assertEqual((done.stdout, done.stderr), ("0\n", ""))
        self.refuse = [ending] * 9
        done = self.run_python("import cdsw")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stderr, "muster: this process could not become a Muster session: it ends\n")

    def test_a_refusal_is_an_error_and_no_refused_worker(self):
        self.refuse = [({"kind": "no_capacity", "message": "no network is free", "hint": "end sessions"}, 409)] * 2
        done = self.run_python("import cdsw; cdsw.launch_workers(1, 1, 1)")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("muster: this process could not become a Muster session: no network is free; end sessions\n"))
        self.assertIn("NoSessionError", done.stderr)

    def test_a_session_that_has_ended_is_none(self):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        stale = {"MUSTER_URL": "http://127.0.0.1:9", "CDSW_API_KEY": "old"}
        done = self.run_python("import cdsw; print(cdsw.list_workers())", MUSTER_ATTACHED=str(gone.pid), **stale)
        self.assertEqual((done.stdout, len(self.created)), ("[]\n", 1), done.stderr)
        done = self.run_python("import cdsw", MUSTER_ATTACHED=str(os.getpid()), **stale)  # lives
        self.assertEqual(len(self.created), 1)

    def test_nobody_helps(self):
        for env, program, want in (
            ({"MUSTER_BIN": None, "PATH": "/nowhere"}, None, "there is no program muster, neither on the PATH nor named by MUSTER_BIN; "
             "install muster and run: muster clients install"),
            ({"MUSTER_BIN": "/nowhere/muster"}, None, "MUSTER_BIN is '/nowhere/muster', which is no program that can be run"),
            ({"MUSTER_ATTACH": "off"}, None, "MUSTER_ATTACH=off says that it is not to become one; start the script with: muster run FILE"),
            ({"MUSTER_TOKEN": "secret\n"}, None, "MUSTER_TOKEN has a character that no token has, such as a newline; set it to the token alone"),
            ({"MUSTER_HOST": "example.org:7070"}, None, "the server at example.org:7070 (MUSTER_HOST)"),
            ({}, "printf 'muster: no room\\n  try: another house\\n' >&2; exit 1",
             "the Muster server could not be started: no room; another house"),
            ({}, "kill -9 $$", "muster ends with exit code -9"),
        ):  # fmt: skip
            with self.subTest(want):
                if program:
                    self.program(program)
                done = self.run_python("import cdsw; print('goes on')\ntry: cdsw.list_workers()\nexcept Exception as e: print(e)", **env)
                self.assertIn(want, done.stdout)
                self.assertTrue(done.stdout.startswith("goes on\n"))
                self.assertEqual(done.stderr.count(want), 0 if "MUSTER_ATTACH" in env else 1)
        self.assertEqual(self.created, [])

    def test_what_the_start_says_is_passed_on(self):
        self.program('echo "muster: no isolation here" >&2; cat "%s/place"' % self.folder)
        self.assertEqual(self.run_python("import cdsw").stderr, "muster: no isolation here\n")

    def test_a_notebook(self):
        """What ipykernel itself does is tested in a real Jupyter server; here: which cell, also by a reply that comes late."""
        first, second = fakeserver.worker_id(0), fakeserver.worker_id(1)
        asked = [threading.Event() for _ in range(3)]
        shown = threading.Event()

        def launch(h, body):
            with self.server.lock:
                n = [e.is_set() for e in asked].index(False)
                asked[n].set()
            if n == 1:
                open(os.path.join(self.folder, "second"), "w").close()
                shown.wait(DEADLINE)  # its output is sent before this reply, and after another launch
            h.reply({"workers": [fakeserver.description(n)]})

        def read(h, body):
            h.begin_lines()
            asked[0].wait(DEADLINE)
            h.line(json.dumps(record(first, "stdout", "one\n")).encode() + b"\n")
            asked[2].wait(DEADLINE)
            h.line(json.dumps(record(second, "stdout", "two\n")).encode() + b"\n")
            time.sleep(0.2)  # what is shown in the wrong cell is shown by now
            shown.set()
            h.line(json.dumps(record(SESSION, "event", '{"type":"notice","message":"a notice"}')).encode() + b"\n")
            h.line(json.dumps(record(first, "stdout", "three\n")).encode() + b"\n")
            self.ended.wait(DEADLINE)
            h.end_lines()

        self.server.answers[("POST", "/sessions/self/workers")] = launch
        self.server.answers[("GET", "/sessions/self/console?follow=true&from=")] = read
        done = self.run_python(
            """
            import sys, types
            class Kernel:
                iopub_socket = object()
                cell = "none"
                def get_parent(self, channel): return {"header": {"msg_id": self.cell}}
                class session:
                    @staticmethod
                    def send(socket, kind, content, parent, ident):
                        sent.append((parent["header"]["msg_id"], content["name"], content["text"], ident))
                        if content["text"].endswith("three\\n"): done.set()
            import threading
            sent, done = [], threading.Event()
            shell = types.SimpleNamespace(kernel=Kernel())
            sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
            import cdsw, os, time
            shell.kernel.cell = "cell 1"
            cdsw.launch_workers(1, 1, 1)
            shell.kernel.cell = "cell 2"
            other = threading.Thread(target=cdsw.launch_workers, args=(1, 1, 1))
            other.start()
            while not os.path.exists("second"): time.sleep(0.01)
            shell.kernel.cell = "cell 3"
            cdsw.launch_workers(1, 1, 1)
            other.join()
            done.wait(30)
            for s in sent: print(s)
            """
        )
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.split("\n")[:4], [
            "('cell 1', 'stdout', '[w0000000] one\\n', b'stream.stdout')", "('cell 2', 'stdout', '[w0000000] two\\n', b'stream.stdout')",
            "('cell 3', 'stderr', 'muster: a notice\\n', b'stream.stderr')", "('cell 1', 'stdout', '[w0000000] three\\n', b'stream.stdout')",
        ])  # fmt: skip
