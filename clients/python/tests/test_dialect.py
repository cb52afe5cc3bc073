"""IPython's syntax in scripts and code, run by real interpreters: with IPython where it is, without it everywhere."""

import importlib.util
import os
import signal
import subprocess
import sys
import unittest

from _muster import _shell

from .dialect_table import ENDS, LINES, MAGIC_ENDS, MAGICS, SAYS, WRONG
from .test_runner import DEADLINE, PYTHON2, RUNNER, Folder

HAS_IPYTHON = importlib.util.find_spec("IPython") is not None
NEEDS_IPYTHON = unittest.skipUnless(HAS_IPYTHON, "capability ipython: IPython is not installed for this Python")

def without_marks(err):
    """Take away the lines with ^ that newer Pythons print."""
    return "".join(line for line in err.splitlines(True) if line.strip(" ~^\n") or not line.strip())


class Both(Folder):
    def one_of_both(self, source, i):
        """Run source as code if i is even, else as a script: the tables are long, and IPython is slow to start."""
        return list(self.both(source, [i % 2]))[0]

    def both(self, source, ways=(0, 1)):
        """Run source as code and as a script; yield (name of the source, result)."""
        if isinstance(source, str):
            source = source.encode("utf-8")
        env = {"MARK": "mark", "HOME": self.dir}
        if 0 in ways:
            yield "<code>", self.code(source, env=env)
        if 1 in ways:
            yield os.path.join(self.dir, "a.py"), self.run_(RUNNER, "script", self.write("a.py", source), env=env)


def heed_signals():
    """Undo what a shell does to its background jobs, of which these tests may be one. Engines begin so, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Dialect(Both):
    def test_lines(self):
        for i, (name, row) in enumerate(LINES.items()):
            source, out, err = row if len(row) == 3 else row + ("",)
            with self.subTest(name):
                self.assertEqual(self.one_of_both(source, i)[1], (0, out, err))
        self.assertFalse(os.path.exists(os.path.join(self.dir, ".ipython")))

    def test_ends(self):
        for name, (source, code, err) in ENDS.items():
            for kind, got in self.both(source):
                with self.subTest(name, kind=kind):
                    self.assertEqual((got[0], without_marks(got[2])), (code, err.replace("{name}", kind)))

    def test_wrong(self):
        for name, (source, words) in WRONG.items():
            for kind, (code, out, err) in self.both(source):
                with self.subTest(name, kind=kind):
                    self.assertEqual((code, out), (1, ""))
                    self.assertIn(words, err)
                    self.assertNotIn("_muster_shell__", err)
                    self.assertNotIn("Traceback", err)

    def test_marks_of_a_traceback(self):
        """Where Python marks a part of the line, it is the part that was written."""
        code, _, err = self.code(b"if 1:\n    x = [\n      1]; y = !sleep 1 &\n    z = x[3]  # here\n")
        self.assertEqual(code, 1)
        code, _, err = self.code(b"def f():\n  x = !a &\nf()")
        lines = err.splitlines()
        at = lines.index("    x = !a &")
        self.assertNotIn("^", lines[at + 1])

    def test_not_utf8(self):
        latin = u"# -*- coding: latin-1 -*-\nx = 'é'\n!echo $x\n".encode("latin-1")
        self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", latin)), (0, u"é\n", ""))
        code, _, err = self.run_(RUNNER, "script", self.write("a.py", b"x = '\xe9'\n!echo no\n"))
        self.assertEqual(code, 1)
        self.assertIn("SyntaxError", err)
        self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", b"\xef\xbb\xbf!echo a\n")), (0, "a\n", ""))

    def test_names_are_left_alone(self):
        """A script sees nothing of ours, and may have modules of the same names."""
        for name in ("_shell", "_syntax", "_dialect", "_main"):
            self.write(name + ".py", b"print('mine')")
        source = (b"import sys\n!true\nprint(sorted(n for n in globals() if n[:2] != '__'))\n"
                  b"import _shell, _syntax, _dialect, _main\nprint(sys.path[0], sys.argv)\n")  # fmt: skip
        out = "['_exit_code', 'sys']\n" + "mine\n" * 4
        self.assertEqual(self.code(source), (0, out + "%s ['']\n" % self.dir, ""))

    def test_five_hundred_and_more(self):
        code, out, err = self.code(b"x = 1\nif 0:\n" + b"    !echo no\n" * 3000 + b"print(x)\n")
        self.assertEqual((code, out, err), (0, "1\n", ""))

    def test_ten_megabytes(self):
        line = b"x = 'a long line of text that goes on and on, and on and on, and on and on, and on and on'  # comment\n"
        self.assertEqual(self.code(line * 30000 + b"s = '''" + b"abc\n!no\n" * 900000 + b"'''\n!echo $x | wc -w\n" )[:2],
                         (0, "22\n"))  # fmt: skip

    def test_output_streams(self):
        """The output of a command is there while it runs."""
        self.write("a.py", b"print('begin')\n!echo first; read x; echo got $x\n")
        p = subprocess.Popen([self.python, "-u", RUNNER, "script", "a.py"], cwd=self.dir, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual([p.stdout.readline(), p.stdout.readline()], [b"begin\n", b"first\n"])
        p.stdin.write(b"answer\n")
        p.stdin.close()
        self.assertEqual(p.stdout.read(), b"got answer\n")
        p.stdout.close()
        self.assertEqual(p.wait(DEADLINE), 0)

    def signalled(self, number, source):
        path = self.write("private/code", source)
        p = subprocess.Popen([self.python, "-u", RUNNER, "code", path], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True, preexec_fn=heed_signals)  # fmt: skip
        self.assertEqual(p.stdout.readline(), b"begin\n")
        os.killpg(p.pid, number)  # as an engine's init and a terminal do
        out, err = p.communicate(timeout=DEADLINE)
        return p.returncode, out.decode(), err.decode()

    def test_interrupt(self):
        for line in (b"!echo begin; sleep 100", b"!trap 'echo bye; exit' INT; echo begin; while :; do sleep 0.1; done"):
            code, out, err = self.signalled(signal.SIGINT, line + b"\nprint('no')\n")
            self.assertEqual(code, -signal.SIGINT)
            self.assertEqual(out, "bye\n" if b"trap" in line else "")
            self.assertIn("KeyboardInterrupt", err)
            self.assertIn('File "<code>", line 1', err)
            self.assertNotIn("_shell", err)
            self.assertNotIn("subprocess", err)
        caught = b"try:\n    !echo begin; sleep 100\nexcept KeyboardInterrupt:\n    print('caught')\n"
        self.assertEqual(self.signalled(signal.SIGINT, caught), (0, "caught\n", ""))

    def test_interrupt_of_captured_output(self):
        """Last words that no pipe holds are not lost, and nobody waits for ever for them."""
        source = (
            b"import contextlib, io, sys\nout = io.StringIO()\ntry:\n    with contextlib.redirect_stdout(out):\n"
            b"        !trap '' INT; echo begin >&3; sleep 0.3; head -c 300000 /dev/zero | tr '\\0' x; exit 0\n"
            b"except KeyboardInterrupt:\n    print(len(out.getvalue()))\n"
        )
        source = b"import os\nos.dup2(1, 3)\nos.set_inheritable(3, True)\n" + source.replace(b">&3", b">/proc/$PPID/fd/3")
        code, out, err = self.signalled(signal.SIGINT, source)
        self.assertEqual((code, out.strip(), err), (0, "300000", ""))

    def test_interrupt_anywhere(self):
        """Nothing is lost of a command that is just starting, or whose output is just being passed on."""
        start = (
            b"import contextlib, io, os, signal, subprocess\n"
            b"signal.signal(signal.SIGINT, signal.default_int_handler)\nout, interrupted = io.StringIO(), []\ndef interrupt(function):\n"
            b"    def then(*args, **keys):\n        value = function(*args, **keys)\n        if value and not interrupted:\n"
            b"            interrupted.append(1)\n            os.kill(os.getpid(), signal.SIGINT)\n"
            b"        return value\n    return then\n"
        )
        command = (
            b"try:\n    with contextlib.redirect_stdout(out):\n        !head -c 300000 /dev/zero | tr '\\0' x; exit 0\n"
            b"except KeyboardInterrupt:\n    print(len(out.getvalue()))\n"
        )
        for where in (b"subprocess.Popen", b"os.read"):
            with self.subTest(where):
                self.assertEqual(self.code(start + b"%s = interrupt(%s)\n" % (where, where) + command), (0, "300000\n", ""))

    def test_interrupt_twice(self):
        """A second signal waits for no last words."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        reached = []
        with self.assertRaises(KeyboardInterrupt):
            with _shell._Patience():
                os.kill(os.getpid(), signal.SIGINT)
                reached.append(1)
                os.kill(os.getpid(), signal.SIGINT)
                reached.append(2)
        self.assertEqual(reached, [1])
        self.assertEqual(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    def test_terminate(self):
        code, out, _ = self.signalled(signal.SIGTERM, b"!echo begin; sleep 100\nprint('no')\n")
        self.assertEqual((code, out), (-signal.SIGTERM, ""))

    def test_multiprocessing(self):
        source = (
            "import multiprocessing, sys\n"
            "v = !echo 2\n"
            "class C:\n    def __init__(self, n):\n        self.n = n\n"
            "def work(c):\n    w = !echo {c.n}\n    return C(int(w[0]) * int(v[0])), __name__\n"
            "if __name__ == '__main__':\n"
            "    !echo once\n"
            "    with multiprocessing.get_context(%r).Pool(2) as pool:\n"
            "        for c, name in pool.map(work, [C(1), C(2)]):\n"
            "            print(c.n, name, type(c) is C)\n"
        )
        for method in ("fork", "spawn", "forkserver"):
            name = "__main__" if method == "fork" else "__mp_main__"
            env = {"PYTHONPATH": os.path.dirname(os.path.dirname(RUNNER))}
            want = (0, "once\n2 %s True\n4 %s True\n" % (name, name), "")
            text = (source % method).encode()
            with self.subTest(method):
                self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", text), env=env), want)
                self.assertEqual(self.code(text, env=env), want)
                plain = text.replace(b"!echo once", b"print('once')").replace(b"v = !echo 2", b"v = ['2']")
                plain = plain.replace(b"w = !echo {c.n}", b"w = [c.n]")
                self.assertEqual(self.code(plain, env=env), want)

    def test_unguarded_code_is_not_run_again(self):
        source = (b"import multiprocessing, os\nprint('once')\n!echo once\n"
                  b"p = multiprocessing.get_context('spawn').Process(target=os.getpid)\np.start()\np.join()\nprint(p.exitcode)\n")  # fmt: skip
        self.assertEqual(self.code(source), (0, "once\nonce\n0\n", ""))


class Magics(Both):
    """The whole of IPython, where it is; a clear error, where it is not."""

    @NEEDS_IPYTHON
    def test_magics(self):
        for i, (name, (source, out)) in enumerate(MAGICS.items()):
            with self.subTest(name):
                code, got, err = self.one_of_both(source, i)[1]
                self.assertEqual((code, err), (0, ""))
                if out is None:
                    self.assertIn(SAYS[name], got)
                else:
                    self.assertEqual(got, out)
        self.assertFalse(os.path.exists(os.path.join(self.dir, ".ipython")), "a profile in the home folder")

    @NEEDS_IPYTHON
    def test_ends_of_magics(self):
        self.write("inner.py", b"import sys\nsys.exit(6)\n")
        for i, (name, (source, want, words)) in enumerate(MAGIC_ENDS.items()):
            with self.subTest(name):
                kind, (code, _, err) = self.one_of_both(source, i)
                self.assertEqual(code, want)
                self.assertIn(words.replace("{name}", kind), without_marks(err))
                for hidden in ("_ipython.py", "/IPython/", "_dialect", "_runner", "asyncio"):
                    self.assertNotIn(hidden, err)

    @NEEDS_IPYTHON
    def test_no_ipython_for_plain_python(self):
        for source in ("print(1)", "from os import path as display\ndisplay", "display = 1\ndef f(): return display\nf()",
                       "# get_ipython\nx = 'display'", "def f(display): return display\nf(1)", "!true", "x = !true",
                       "class A:\n    def display(self): pass\nA().display()"):  # fmt: skip
            for kind, (code, out, err) in self.both(source + "\nimport sys\nprint('IPython' in sys.modules)"):
                with self.subTest(source, kind=kind):
                    self.assertEqual((code, out.splitlines()[-1:], err), (0, ["False"], ""))

    @NEEDS_IPYTHON
    def test_spawn(self):
        source = (b"import multiprocessing, os\nhere = %pwd\ndef work(n):\n    return n, here == os.getcwd()\n"
                  b"if __name__ == '__main__':\n    with multiprocessing.get_context('spawn').Pool(1) as p:\n"
                  b"        print(p.map(work, [1]))\n")  # fmt: skip
        env = {"PYTHONPATH": os.path.dirname(os.path.dirname(RUNNER))}
        self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", source), env=env), (0, "[(1, True)]\n", ""))


class WithoutIPython(Both):
    """An interpreter for which IPython cannot be found: the folder holds an IPython that says so, as Python does."""

    def setUp(self):
        super().setUp()
        self.write("IPython.py", b"raise ModuleNotFoundError(\"No module named 'IPython'\", name='IPython')\n")

    def test_the_line_and_the_package_are_named(self):
        for source, line, what in (
            ("print('never')\n\nif 1:\n    %timeit 1", 4, "%timeit"), ("%%bash\nls", 1, "%%bash"), ("x = 1\nx?", 2, "x?"),
            ("x = %pwd", 1, "%pwd"), ("!echo a \\\n b\n?x", 3, "x?"),
        ):  # fmt: skip
            for kind, (code, out, err) in self.both(source):
                with self.subTest(source, kind=kind):
                    self.assertEqual((code, out), (1, ""), "nothing has run")
                    self.assertEqual([part.strip() for part in err.splitlines()[:2]],
                                     ['File "%s", line %d' % (kind, line), source.splitlines()[line - 1].strip()])  # fmt: skip
                    self.assertIn("SyntaxError: %s is run by IPython, which is not installed" % what, err)
                    self.assertIn("-m pip install ipython\n", err)
                    self.assertNotIn("Traceback", err)

    def test_names(self):
        code, out, err = self.code(b"try:\n    get_ipython()\nexcept NameError:\n    print('no notebook')\n")
        self.assertEqual((code, out, err), (0, "no notebook\n", ""))
        for name in ("get_ipython", "display"):
            code, _, err = self.code(b"%s(1)\n" % name.encode())
            self.assertEqual(code, 1)
            self.assertIn("NameError", err)
            self.assertIn("-m pip install ipython", err)

    def test_lines_need_none(self):
        self.assertEqual(self.code(b"x = 1\n!echo $x\n"), (0, "1\n", ""))


@unittest.skipUnless(PYTHON2, "capability python2: there is no Python 2.7 on this machine")
class Python2(Folder):
    python = PYTHON2

    def test_lines(self):
        newer = ("annotated", "default arguments", "walrus", "names beyond", "future", "await", "async", "task in", "quoting",
                 "fields and", "divided at", "a stream of")  # fmt: skip
        for name, row in LINES.items():
            if any(n in name for n in newer):
                continue
            source, out, err = row if len(row) == 3 else row + ("",)
            source = "from __future__ import print_function\n" + source if source.lstrip(" \n\t\f") == source else source
            if source.startswith("from") and ("doc" in name or "prompts" in name):
                continue
            with self.subTest(name):
                self.assertEqual(self.code(source.encode("utf-8"), env={"MARK": "mark"}), (0, out, err))

    def test_ends(self):
        code, _, err = self.code(b"!true\n\ndef f():\n    1 / 0  # here\n\nf()")
        self.assertEqual(code, 1)
        self.assertIn('File "<code>", line 4, in f\n    1 / 0  # here\n', err)
        self.assertNotIn("_runner", err)

    def test_magics_are_refused(self):
        code, out, err = self.code(b"print 1\n%pwd\n")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("%pwd is run by IPython", err)
